//! The echo family: E1, E2, E3 and E6, in every contract under every dispatch.

use crate::harness::guests::{echo_blocking, echo_concurrent, echo_evented, pairs};
use crate::harness::python::Python;
use crate::harness::{Client, Guest, Serve, Server, text};

const ECHO: [Guest; 3] = [echo_blocking, echo_evented, echo_concurrent];

/// Starts each echo guest under each dispatch, and gives the server to `check`.
/// Nothing may go wrong in any of them.
#[track_caller]
fn each(mode: &str, check: impl Fn(&Server)) {
    for (guest, dispatch) in pairs(&ECHO) {
        println!("{mode}: {} under {dispatch}", guest.name);
        let server = Serve::guest(guest, dispatch).env(mode).start();
        check(&server);
        server.stop().check_no_alarm();
    }
}

#[test]
fn the_ready_line_says_what_is_served() {
    for (guest, dispatch) in pairs(&ECHO) {
        let server = Serve::component(guest.builtin())
            .args(["--dispatch", dispatch])
            .start();
        let expected = format!(
            "listening tcp://{} service=echo contract={} dispatch={dispatch}",
            server.address(),
            guest.contract()
        );
        assert_eq!(server.ready, [expected]);
        server.connect().check_echo("hello");
    }
}

#[test]
fn the_default_dispatch_is_what_suits_the_contract() {
    for (guest, dispatch) in [
        (echo_blocking, "threaded"),
        (echo_evented, "poll"),
        (echo_concurrent, "poll"),
    ] {
        let server = Serve::component(guest.path())
            .args(["--name", "shout"])
            .start();
        let expected = format!(
            " service=shout contract={} dispatch={dispatch}",
            guest.contract()
        );
        assert!(server.ready[0].ends_with(&expected), "{}", server.ready[0]);
    }
}

/// E2.
#[test]
fn stream_echoes_until_the_peer_half_closes() {
    each("MODE=stream", |server| {
        let mut client = server.connect();
        client.check_echo("one");
        client.check_echo(b"\0\xff\r\n");
        client.send("last");
        client.finish_sending();
        assert_eq!(text(client.read_to_end()), "last");
        let mut client = server.connect();
        client.finish_sending();
        client.expect_eof();
    });
}

/// E1.
#[test]
fn once_echoes_a_single_read_of_at_most_a_hundred_bytes() {
    each("MODE=once", |server| {
        let check = |sent: &[u8], expected: &[u8]| {
            assert_eq!(ask(server.connect(), sent), text(expected));
        };
        check(b"hello", b"hello");
        check(&[b'x'; 100], &[b'x'; 100]);
        check(&[b'x'; 3000], &[b'x'; 100]);
        let mut client = server.connect();
        client.finish_sending();
        client.expect_eof();
    });
}

/// What E3 is asked, and what it answers.
const UPPER: [(&[u8], &[u8]); 7] = [
    (b"hello world", b"HELLO WORLD"),
    (b"  padded \r\n", b"PADDED"),
    (b"\x0b\x0cvertical\x0b", b"VERTICAL"),
    (b"two\nlines\n", b"TWO\nLINES"),
    (b"stra\xc3\x9fe \xff", b"STRA\xc3\x9fE \xff"),
    (b"\0nul\0", b"\0NUL\0"),
    (b" \t\r\n", b""),
];

/// Sends a question, and gives the whole answer.
#[track_caller]
fn ask(mut client: Client, question: &[u8]) -> String {
    client.send(question);
    text(client.read_to_end())
}

/// E3.
#[test]
fn upper_answers_the_stripped_text_in_upper_case() {
    for (guest, dispatch) in pairs(&ECHO) {
        let server = Serve::guest(guest, dispatch).env("MODE=upper").start();
        for (sent, expected) in UPPER {
            assert_eq!(ask(server.connect(), sent), text(expected));
        }
        assert_eq!(ask(server.connect(), &[b'x'; 3000]), "X".repeat(1024));
        let finished = server.stop();
        finished.check_no_alarm();
        let lines = finished.guest_lines();
        assert_eq!(
            lines[..4],
            [
                "127.0.0.1 wrote:",
                "hello world",
                "127.0.0.1 wrote:",
                "padded"
            ]
        );
    }
}

#[test]
fn upper_is_what_socketserver_does() {
    let Some(python) = Python::start("upper.py") else {
        return;
    };
    let theirs = UPPER.map(|(sent, _)| ask(python.connect(), sent));
    for (guest, dispatch) in pairs(&ECHO) {
        let server = Serve::guest(guest, dispatch).env("MODE=upper").start();
        let ours = UPPER.map(|(sent, _)| ask(server.connect(), sent));
        assert_eq!(ours, theirs);
        let finished = server.stop();
        let lines = finished.guest_lines();
        // The log shows what a terminal would take for more than text.
        let theirs = python.printed(lines.len()).into_iter();
        let theirs: Vec<_> = theirs.map(|line| line.replace('\0', "\\u{0}")).collect();
        assert_eq!(theirs, lines);
    }
}

/// E6.
#[test]
fn hello_greets_and_closes() {
    each("MODE=hello", |server| {
        let mut client = server.connect();
        assert_eq!(text(client.read_to_end()), r"Hello World!\n");
        // What a peer sends is ignored, and does not destroy the answer.
        let mut client = server.connect();
        client.send_some(&[b'x'; 100_000]);
        assert_eq!(text(client.read_to_end()), r"Hello World!\n");
    });
}

#[test]
fn a_wrong_option_is_told() {
    for (guest, dispatch) in pairs(&ECHO) {
        let server = Serve::guest(guest, dispatch).env("MODE=shout").start();
        server.connect().expect_eof();
        let finished = server.stop();
        let expected = "MODE=shout: expected stream, line, once, upper or hello";
        let told = finished
            .log
            .iter()
            .filter(|event| event.message().contains(expected));
        assert_eq!(told.count(), 1, "{:#?}", finished.log);
        assert_eq!(finished.alarms().len(), 1, "{:#?}", finished.alarms());
    }
}
