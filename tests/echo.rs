//! The echo family: E1, E2, E3 and E6, in every contract under every dispatch.

use crate::harness::control::Controlled;
use crate::harness::python::Python;
use crate::harness::server::refused_to_start;
use crate::harness::{Client, Guest, Serve, Server, text};

/// Starts a guest in a mode, and gives the server to `check`. Nothing may go wrong
/// in it.
#[track_caller]
fn serve(guest: Guest, dispatch: &str, mode: &str, check: impl FnOnce(&Server)) {
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .env(mode)
        .start();
    check(&server);
    server.stop().check_no_alarm();
}

for_each_pair! { echo, echo_commands: the_ready_line_says_what_is_served }
fn the_ready_line_says_what_is_served(guest: Guest, dispatch: &str) {
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

for_each_pair! { echo by default, echo_commands by default: the_default_dispatch_is_what_suits_the_contract }
fn the_default_dispatch_is_what_suits_the_contract(guest: Guest, dispatch: &str) {
    let server = Serve::component(guest.path())
        .args(["--name", "shout"])
        .start();
    let expected = format!(
        " service=shout contract={} dispatch={dispatch}",
        guest.contract()
    );
    assert!(server.ready[0].ends_with(&expected), "{}", server.ready[0]);
}

for_each_pair! { echo, echo_commands: stream_echoes_until_the_peer_half_closes }
/// E2.
fn stream_echoes_until_the_peer_half_closes(guest: Guest, dispatch: &str) {
    serve(guest, dispatch, "MODE=stream", |server| {
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

for_each_pair! { echo, echo_commands: once_echoes_a_single_read_of_at_most_a_hundred_bytes }
/// E1.
fn once_echoes_a_single_read_of_at_most_a_hundred_bytes(guest: Guest, dispatch: &str) {
    serve(guest, dispatch, "MODE=once", |server| {
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

for_each_pair! { echo, echo_commands: upper_answers_the_stripped_text_in_upper_case }
/// E3.
fn upper_answers_the_stripped_text_in_upper_case(guest: Guest, dispatch: &str) {
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

for_each_pair! { echo, echo_commands: upper_is_what_socketserver_does }
fn upper_is_what_socketserver_does(guest: Guest, dispatch: &str) {
    let Some(python) = Python::start("upper.py") else {
        return;
    };
    let theirs = UPPER.map(|(sent, _)| ask(python.connect(), sent));
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

for_each_pair! { echo, echo_commands: hello_greets_and_closes }
/// E6.
fn hello_greets_and_closes(guest: Guest, dispatch: &str) {
    serve(guest, dispatch, "MODE=hello", |server| {
        let mut client = server.connect();
        assert_eq!(text(client.read_to_end()), r"Hello World!\n");
        // What a peer sends is ignored, and does not destroy the answer.
        let mut client = server.connect();
        client.send_some(&[b'x'; 100_000]);
        assert_eq!(text(client.read_to_end()), r"Hello World!\n");
    });
}

for_each_pair! { echo, echo_commands: a_wrong_option_is_told }
/// It is found before a peer could meet it.
fn a_wrong_option_is_told(guest: Guest, dispatch: &str) {
    let line = refused_to_start(guest, dispatch, &["--env", "MODE=shout"]);
    let said = "cannot make an instance: it called exit with status 1; it wrote: MODE=shout: \
                expected stream, line, once, upper or hello";
    assert!(line.ends_with(said), "{line}");
}

for_each_pair! { echo [blocking_threaded, concurrent_poll, evented_poll]: a_swap_to_a_wrong_option_is_refused }
/// Both versions have the environment; the second does not know the value.
fn a_swap_to_a_wrong_option_is_refused(guest: Guest, dispatch: &str) {
    let environment = ["--env", "SERVICE=shout"];
    let controlled = Controlled::start(guest, dispatch, &environment);
    let mut client = controlled.server.connect();
    client.check_echo("before");
    let small = guest.contract();
    let why = controlled.swap_refused(format!("builtin:small-{small}"), &[]);
    let said = "it wrote: SERVICE=shout: expected discard, chargen, time, qotd or log";
    assert!(why.contains(said), "{why}");
    client.check_echo("after");
    assert_eq!(controlled.status()["versions"][0]["number"], 1);
    controlled
        .server
        .wait_for_log("the refusal", |event| event.message().contains(said));
}
