//! The time family: T1, T2, T5, T6 and T7, in every contract under every
//! dispatch, and T3 and T4, which are T2 under a dispatch.

use crate::harness::ctime::{self, LENGTH};
use crate::harness::python::Python;
use crate::harness::server::refused_to_start;
use crate::harness::{Client, Guest, Serve, Server, text};

/// Starts a guest with these options, and gives the server to `check`. Nothing may
/// go wrong in it.
#[track_caller]
fn serve(guest: Guest, dispatch: &str, options: &[&str], check: impl FnOnce(&Server)) {
    let mut serve = Serve::guest(guest, dispatch).compiled_once();
    for option in options {
        serve = serve.env(option);
    }
    let server = serve.start();
    check(&server);
    server.stop().check_no_alarm();
}

/// Reads one answer.
#[track_caller]
fn expect_time(client: &mut Client, earliest: u64) {
    ctime::check(&client.read_exact(LENGTH), earliest);
}

/// Reads one answer, and the end of file after it.
#[track_caller]
fn expect_only_time(client: &mut Client, earliest: u64) {
    ctime::check(&client.read_to_end(), earliest);
}

for_each_pair! { time, time_commands: daytime_tells_the_time_and_closes }
/// T1. It is the default too, as the tests in `clients` see.
fn daytime_tells_the_time_and_closes(guest: Guest, dispatch: &str) {
    serve(guest, dispatch, &["MODE=daytime"], |server| {
        let now = ctime::now();
        expect_only_time(&mut server.connect(), now);
        // What a peer sends does not destroy the answer.
        let mut client = server.connect();
        client.send_some(&[b'x'; 100_000]);
        expect_only_time(&mut client, now);
    });
}

for_each_pair! { time, time_commands: request_is_logged_and_answered }
/// T2.
fn request_is_logged_and_answered(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).env("MODE=request").start();
    let now = ctime::now();
    let mut client = server.connect();
    client.send("What time is it?\r\n");
    expect_only_time(&mut client, now);
    client = server.connect();
    client.finish_sending();
    expect_only_time(&mut client, now);
    drop(client);
    let finished = server.stop();
    finished.check_no_alarm();
    assert_eq!(finished.guest_lines()[0], "What time is it?");
}

for_each_pair! { time under sequential, time_commands under sequential: sequential_serves_one_after_the_other }
/// T3: a peer that says nothing holds up the next one.
fn sequential_serves_one_after_the_other(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).env("MODE=request").start();
    let now = ctime::now();
    let mut silent = server.connect();
    server.wait_for_open(&silent);
    let mut next = server.connect();
    next.send("next");
    assert!(next.is_silent());
    silent.send("silent no more");
    expect_only_time(&mut silent, now);
    expect_only_time(&mut next, now);
    drop((silent, next));
    // That `next` was not answered before is in the order of the log.
    let finished = server.stop();
    assert!(finished.place(1, "silent no more") < finished.place(2, "connection opened"));
    assert_eq!(finished.guest_lines(), ["silent no more", "next"]);
}

/// The option for one thread of guests, where there could be several.
fn one_worker(dispatch: &str) -> &'static [&'static str] {
    match dispatch {
        "threaded" => &["--workers", "1"],
        _ => &[],
    }
}

for_each_pair! { time without sequential, time_commands without sequential: a_silent_peer_holds_up_nobody_else }
/// T4, and what the poll dispatch does with one thread.
fn a_silent_peer_holds_up_nobody_else(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .env("MODE=request")
        // With a single worker it must be so as well.
        .args(one_worker(dispatch))
        .start();
    let now = ctime::now();
    let mut silent: Vec<Client> = (0..10).map(|_| server.connect()).collect();
    for client in &silent {
        server.wait_for_open(client);
    }
    for _ in 0..3 {
        let mut next = server.connect();
        next.send("next");
        expect_only_time(&mut next, now);
    }
    for client in &mut silent {
        assert!(client.is_silent());
        client.send("at last");
        expect_only_time(client, now);
    }
    drop(silent);
    server.stop().check_no_alarm();
}

for_each_pair! { time, time_commands: line_answers_every_chunk_with_a_line_ending }
/// T5.
fn line_answers_every_chunk_with_a_line_ending(guest: Guest, dispatch: &str) {
    serve(guest, dispatch, &["MODE=line"], |server| {
        let now = ctime::now();
        let mut client = server.connect();
        client.send("a\r\n");
        expect_time(&mut client, now);
        client.send("two\r\nlines\r\nand a half");
        expect_time(&mut client, now);
        client.send("\r\n");
        expect_time(&mut client, now);
        client.send("torn\r");
        client.send("\n");
        expect_time(&mut client, now);
        client.send("no line ending\n");
        client.finish_sending();
        client.expect_eof();
    });
}

/// What T5's client sends, and how many answers it waits for each time.
const LINES: [(&str, usize); 6] = [
    ("what time is it?\r\n", 1),
    ("\r\n", 1),
    ("one\r\ntwo\r\nthree\r\n", 1),
    ("no line ending", 0),
    ("now there is\r\n", 1),
    ("\n\n\r", 0),
];

for_each_pair! { time, time_commands: line_is_what_socketserver_does }
fn line_is_what_socketserver_does(guest: Guest, dispatch: &str) {
    let Some(python) = Python::start("time_by_line.py") else {
        return;
    };
    let earliest = ctime::now();
    let transcript = |mut client: Client| {
        let mut transcript = Vec::new();
        for (line, answers) in LINES {
            transcript.push(line);
            client.send(line);
            for _ in 0..answers {
                expect_time(&mut client, earliest);
            }
            transcript.extend(std::iter::repeat_n("<time>", answers));
        }
        client.finish_sending();
        (transcript, text(client.read_to_end()))
    };
    let theirs = transcript(python.connect());
    let server = Serve::guest(guest, dispatch).env("MODE=line").start();
    assert_eq!(transcript(server.connect()), theirs);
}

for_each_pair! { time, time_commands: event_answers_every_chunk }
/// T6.
fn event_answers_every_chunk(guest: Guest, dispatch: &str) {
    serve(guest, dispatch, &["MODE=event"], |server| {
        let now = ctime::now();
        let mut client = server.connect();
        for chunk in ["a", "b\r\n", "\0"] {
            client.send(chunk);
            expect_time(&mut client, now);
        }
        client.finish_sending();
        client.expect_eof();
    });
}

/// T7 with one kind of terminator: `request` is in pieces of which only the last
/// completes it.
#[track_caller]
fn check_terminator(guest: Guest, dispatch: &str, options: &[&str], request: &[&str]) {
    serve(guest, dispatch, options, |server| {
        let now = ctime::now();
        let mut client = server.connect();
        let (last, first) = request.split_last().unwrap();
        for piece in first {
            client.send(piece);
        }
        assert!(client.is_silent());
        client.send(last);
        expect_only_time(&mut client, now);
        // An unfinished request has no answer.
        let mut client = server.connect();
        client.send(first.concat());
        client.finish_sending();
        client.expect_eof();
    });
}

for_each_pair! { time, time_commands: terminator_is_an_empty_line_by_default }
fn terminator_is_an_empty_line_by_default(guest: Guest, dispatch: &str) {
    let request = ["GET / HTTP/1.0\r\n", "\r", "\r\n\r", "\nignored"];
    check_terminator(guest, dispatch, &["MODE=terminator"], &request);
}

for_each_pair! { time, time_commands: terminator_may_be_any_text }
fn terminator_may_be_any_text(guest: Guest, dispatch: &str) {
    let options = ["MODE=terminator", r"TERMINATOR=\x45ND\n"];
    check_terminator(guest, dispatch, &options, &["BEGIN\nEN", "END", "\n"]);
}

for_each_pair! { time, time_commands: terminator_may_be_a_count }
fn terminator_may_be_a_count(guest: Guest, dispatch: &str) {
    let options = ["MODE=terminator", "TERMINATOR=count:5000"];
    check_terminator(guest, dispatch, &options, &[&"x".repeat(4999), "y"]);
}

for_each_pair! { time, time_commands: terminator_may_be_none }
fn terminator_may_be_none(guest: Guest, dispatch: &str) {
    serve(
        guest,
        dispatch,
        &["MODE=terminator", "TERMINATOR=none"],
        |server| {
            let mut client = server.connect();
            client.send("\r\n\r\n".repeat(1000));
            client.finish_sending();
            client.expect_eof();
        },
    );
}

for_each_pair! { time, time_commands: a_wrong_terminator_is_told }
fn a_wrong_terminator_is_told(guest: Guest, dispatch: &str) {
    let line = refused_to_start(guest, dispatch, &["--env", "TERMINATOR=count:0"]);
    assert!(
        line.contains("TERMINATOR=count:0: expected a number of bytes"),
        "{line}"
    );
}
