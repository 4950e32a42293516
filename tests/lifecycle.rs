//! How a service ends: SIGTERM, SIGINT, the drain and its timeout.

use std::io::ErrorKind;
use std::net::TcpStream;

use rustix::process::Signal;

use crate::harness::{Client, Guest, Serve, Server};

/// A stream echo with these options.
#[track_caller]
fn start(guest: Guest, dispatch: &str, options: &[&str]) -> Server {
    Serve::guest(guest, dispatch)
        .compiled_once()
        .args(options)
        .start()
}

for_each_pair! { echo, echo_commands: a_service_without_connections_ends_at_once }
fn a_service_without_connections_ends_at_once(guest: Guest, dispatch: &str) {
    for signal in [Signal::TERM, Signal::INT] {
        // Past the patience of `finish`, so that no timeout helps.
        let server = start(guest, dispatch, &["--drain-timeout", "1h"]);
        server.process.signal(signal);
        let finished = server.finish();
        assert_eq!(finished.status.code(), Some(0));
        finished.check_no_alarm();
        let last = finished.log.last().unwrap();
        assert_eq!(
            (last.message(), last.number("accepted")),
            ("stopped", Some(0))
        );
    }
}

/// Connects until nobody listens any more. A connection that gets in before is
/// left to itself.
#[track_caller]
fn wait_until_refused(server: &Server) {
    for _ in 0..100_000 {
        match TcpStream::connect(server.address()) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            // The listener was closed while this one was in its backlog.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
            Ok(_) => std::thread::yield_now(),
        }
    }
    panic!("it still listens");
}

for_each_pair! { echo, echo_commands: open_connections_go_on_until_they_close }
fn open_connections_go_on_until_they_close(guest: Guest, dispatch: &str) {
    let server = start(guest, dispatch, &["--drain-timeout", "1h"]);
    let count = if dispatch == "sequential" { 1 } else { 3 };
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.check_echo("before");
    }
    server.terminate();
    server.wait_for_log("the drain", |event| event.message() == "draining");
    wait_until_refused(&server);
    for client in &mut clients {
        client.check_echo("after");
    }
    for mut client in clients {
        client.send("last");
        client.finish_sending();
        assert_eq!(client.read_to_end(), b"last");
    }
    let finished = server.finish();
    assert_eq!(finished.status.code(), Some(0));
    finished.check_no_alarm();
}

for_each_pair! { echo, echo_commands: the_drain_timeout_closes_what_is_open }
fn the_drain_timeout_closes_what_is_open(guest: Guest, dispatch: &str) {
    let server = start(guest, dispatch, &["--drain-timeout", "300ms"]);
    let count = if dispatch == "sequential" { 1 } else { 3 };
    let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.check_echo("hello");
    }
    server.terminate();
    for client in &mut clients {
        client.expect_eof();
    }
    let finished = server.finish();
    assert_eq!(finished.status.code(), Some(0));
    let told: Vec<_> = finished
        .log
        .iter()
        .filter(|event| event.message() == "drain timeout, closing what is open")
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].number("connections"), Some(count));
}

for_each_pair! { echo, echo_commands: a_second_signal_ends_it_at_once }
// From: review of 2026-11-25, 3.17, for the status.
fn a_second_signal_ends_it_at_once(guest: Guest, dispatch: &str) {
    let server = start(guest, dispatch, &["--drain-timeout", "1h"]);
    let mut client = server.connect();
    client.check_echo("hello");
    server.terminate();
    server.wait_for_log("the drain", |event| event.message() == "draining");
    server.terminate();
    let finished = server.finish();
    // Not as if the client had been served to its end.
    assert_eq!(finished.status.code(), Some(1));
    assert!(client.drain().is_empty());
}

for_each_pair! { echo, echo_commands: what_waits_in_the_backlog_is_served }
/// A peer that the kernel has connected before the signal has been promised
/// service.
fn what_waits_in_the_backlog_is_served(guest: Guest, dispatch: &str) {
    let server = start(guest, dispatch, &["--drain-timeout", "1h"]);
    // A stopped process accepts nothing; its kernel does.
    server.process.signal(Signal::STOP);
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send("early");
        client.finish_sending();
    }
    server.terminate();
    server.process.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.read_to_end(), b"early");
    }
    drop(clients);
    let finished = server.finish();
    assert_eq!(finished.status.code(), Some(0));
    finished.check_no_alarm();
    let last = finished.log.last().unwrap();
    assert_eq!(
        (last.message(), last.number("handled")),
        ("stopped", Some(20))
    );
}

for_each_pair! { echo, echo_commands: connections_are_counted }
/// The log has the end of every connection, with what went over it.
fn connections_are_counted(guest: Guest, dispatch: &str) {
    let server = start(guest, dispatch, &[]);
    for _ in 0..3 {
        server.connect().check_echo("hello");
    }
    server.wait_for_closed(3);
    let finished = server.stop();
    let mut closed: Vec<_> = finished
        .log
        .iter()
        .filter(|event| event.message() == "connection closed")
        .map(|event| {
            let bytes = |field| event.number(field).unwrap();
            (
                event.connection().unwrap(),
                bytes("bytes_in"),
                bytes("bytes_out"),
            )
        })
        .collect();
    // One that closes need not be gone before the next one is.
    closed.sort_unstable();
    assert_eq!(closed, [(1, 5, 5), (2, 5, 5), (3, 5, 5)]);
    let last = finished.log.last().unwrap();
    let counts = ["accepted", "handled", "failed"].map(|field| last.number(field).unwrap());
    assert_eq!(counts, [3, 3, 0]);
}

for_each_pair! { echo, echo_commands: peers_in_the_backlog_are_served_before_the_end }
/// Connections that the kernel has completed when draining begins are served as
/// permits come free, though there was none for them then.
// From: review of 2026-11-25, 3.16.
fn peers_in_the_backlog_are_served_before_the_end(guest: Guest, dispatch: &str) {
    let options = ["--max-connections", "1", "--drain-timeout", "1h"];
    let server = start(guest, dispatch, &options);
    let mut first = server.connect();
    first.check_echo("first\n");
    let mut waiting: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for client in &mut waiting {
        client.send("waiting\n");
        client.finish_sending();
    }
    server.terminate();
    server.wait_for_log("the drain", |event| event.message() == "draining");
    first.check_echo("still here\n");
    first.finish_sending();
    first.expect_eof();
    for client in &mut waiting {
        client.expect("waiting\n");
        client.expect_eof();
    }
    drop((first, waiting));
    let finished = server.finish();
    assert_eq!(finished.status.code(), Some(0));
    finished.check_no_alarm();
}
