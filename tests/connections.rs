//! An administrator sees connections and ends them; time-outs end them too; the access log
//! has a line of each.

use std::thread;

use serde_json::Value;

use crate::chat::WELCOME;
use crate::harness::control::{Controlled, failed, refusal};
use crate::harness::guests::{echo_blocking, echo_concurrent, echo_datagram, echo_evented};
use crate::harness::{Client, Guest, Serve, noise};

/// The number of the client's connection.
#[track_caller]
fn number(controlled: &Controlled, client: &Client) -> String {
    let opened = controlled.server.wait_for_open(client);
    opened.connection().unwrap().to_string()
}

/// Checks that every connection that was accepted is somewhere.
#[track_caller]
fn check_sums(controlled: &Controlled) {
    // One that has just ended is counted twice for a moment: it is still open.
    controlled.wait_for_status("sums that add up", |status| {
        let get = |field: &str| status[field].as_u64().unwrap();
        get("accepted") == get("open") + get("handled") + failed(status)
    });
}

for_each_pair! { echo, echo_commands: connections_are_listed_with_their_bytes }
fn connections_are_listed_with_their_bytes(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &[]);
    assert!(controlled.connections().is_empty());
    let mut client = controlled.server.connect();
    client.check_echo("12345\n");
    let listed = controlled.connections();
    assert_eq!(listed.len(), 1);
    let expected = [
        (
            "connection",
            number(&controlled, &client).parse::<u64>().unwrap().into(),
        ),
        ("service", Value::from(controlled.name())),
        ("peer", client.local().to_string().into()),
        ("version", 1.into()),
        ("bytes-in", 6.into()),
        ("bytes-out", 6.into()),
        ("unsent", 0.into()),
        ("state", "serving".into()),
    ];
    for (field, value) in expected {
        assert_eq!(listed[0][field], value, "{field}");
    }
    let open = listed[0]["open-milliseconds"].as_u64().unwrap();
    assert!(listed[0]["idle-milliseconds"].as_u64().unwrap() <= open);
    let name = controlled.name();
    let lines = controlled.command(["connections", &name]).printed();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("NUMBER"), "{lines:?}");
    assert!(lines[1].ends_with(&client.local().to_string()), "{lines:?}");
    client.finish_sending();
    client.expect_eof();
    controlled.wait_for_status("its end", |status| status["open"] == 0);
    assert!(controlled.connections().is_empty());
    let refused = refusal(&controlled.command(["connections", "nobody"]));
    assert!(refused.contains("there is no service nobody"), "{refused}");
}

for_each_pair! { echo, echo_commands: a_killed_connection_costs_no_other }
fn a_killed_connection_costs_no_other(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--linger", "1h"]);
    let mut killed = controlled.server.connect();
    killed.check_echo("before\n");
    let number = number(&controlled, &killed);
    // Under `sequential` it waits for its turn meanwhile.
    let mut other = controlled.server.connect();
    let said = controlled.command(["kill", &number]).printed();
    assert_eq!(said, [format!("killed 1 connection: {number}")]);
    assert!(killed.drain().is_empty());
    other.check_echo("after\n");
    controlled.server.wait_for_closed(1);
    let status = controlled.status();
    assert_eq!(
        (&status["failed"]["killed"], failed(&status)),
        (&1.into(), 1)
    );
    assert_eq!(status["open"], 1);
    check_sums(&controlled);
    // It is gone, and the other one is not touched by that.
    let refused = refusal(&controlled.command(["kill", &number]));
    assert!(
        refused.contains("is not open, and nothing was done"),
        "{refused}"
    );
    other.check_echo("still\n");
    other.finish_sending();
    other.expect_eof();
    controlled.server.stop().check_no_alarm();
}

#[test]
fn a_number_that_is_not_open_saves_the_others() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let mut client = controlled.server.connect();
    client.check_echo("a\n");
    let number = number(&controlled, &client);
    let refused = refusal(&controlled.command(["kill", &number, "99999"]));
    assert!(
        refused.contains("connection 99999 is not open"),
        "{refused}"
    );
    client.check_echo("b\n");
    for (args, expected) in [
        (
            vec!["kill", "--peer", "127.0.0.0/99"],
            "write a block such as",
        ),
        (
            vec!["kill", "--service", "nobody"],
            "there is no service nobody",
        ),
    ] {
        let refused = refusal(&controlled.command(args));
        assert!(refused.contains(expected), "{refused}");
    }
    assert_eq!(controlled.command(["kill"]).status, Some(2));
    let said = controlled
        .command(["kill", "--peer", "192.0.2.1"])
        .printed();
    assert_eq!(said, ["no connection fits"]);
    client.check_echo("c\n");
}

for_each_pair! { echo without sequential: connections_of_a_peer_are_killed_together }
fn connections_of_a_peer_are_killed_together(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &[]);
    let address = controlled.server.address();
    let mut from = |last: u8| {
        let mut client = Client::connect_from([127, 0, 0, last], address);
        client.check_echo("hello\n");
        client
    };
    let mut near: Vec<_> = (2..5).map(&mut from).collect();
    let mut far = from(200);
    let args = [
        "kill",
        "--peer",
        "127.0.0.0/29",
        "--service",
        &controlled.name(),
        "--json",
    ];
    let said = controlled.command(args).printed();
    let reply: Value = serde_json::from_str(&said[0]).unwrap();
    assert_eq!(reply["killed"].as_array().unwrap().len(), 3);
    for client in &mut near {
        assert!(client.drain().is_empty());
    }
    far.check_echo("still here\n");
    controlled.server.wait_for_closed(3);
    let status = controlled.status();
    assert_eq!(status["failed"]["killed"], 3);
    check_sums(&controlled);
}

/// The connection of a peer that never closes is in the hands of the host alone.
#[test]
fn a_connection_that_is_closing_can_be_killed() {
    let controlled = Controlled::start(
        echo_evented,
        "poll",
        &["--linger", "1h", "--env", "MODE=once"],
    );
    let mut client = controlled.server.connect();
    client.check_echo("hello");
    client.expect_eof();
    let is_closing = |listed: &[Value]| listed[0]["state"] == "closing";
    while !is_closing(&controlled.connections()) {
        thread::yield_now();
    }
    let number = number(&controlled, &client);
    controlled.command(["kill", &number]).printed();
    controlled.server.wait_for_closed(1);
    // Its handler had ended well.
    let status = controlled.status();
    assert_eq!((&status["handled"], failed(&status)), (&1.into(), 0));
}

for_each_pair! { echo shared: a_connection_is_found_through_every_hand_over }
fn a_connection_is_found_through_every_hand_over(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &[]);
    let mut client = controlled.server.connect();
    client.check_echo("1234\n");
    let number = number(&controlled, &client);
    for (version, next) in [(2, echo_concurrent), (3, echo_blocking), (4, echo_evented)] {
        if next.builtin() != guest.builtin() || version > 2 {
            controlled.swap(next.builtin(), &["--old", "hand-over"]);
        }
        controlled.wait_for_settled(1);
        client.check_echo("1234\n");
    }
    let listed = controlled.connections();
    assert_eq!(listed[0]["connection"].to_string(), number);
    assert_eq!(listed[0]["bytes-in"], 20);
    controlled.command(["kill", &number]).printed();
    assert!(client.drain().is_empty());
    controlled.server.wait_for_closed(1);
    check_sums(&controlled);
}

for_each_pair! { echo, echo_commands: a_peer_that_says_nothing_is_closed }
fn a_peer_that_says_nothing_is_closed(guest: Guest, dispatch: &str) {
    let options = ["--first-byte-timeout", "300ms"];
    let controlled = Controlled::start(guest, dispatch, &options);
    let mut first = controlled.server.connect();
    first.check_echo("in time\n");
    if dispatch == "sequential" {
        // The next one is not accepted before.
        first.finish_sending();
        first.expect_eof();
    }
    let mut silent = controlled.server.connect();
    silent.expect_eof();
    if dispatch != "sequential" {
        // It was open before the other one, and is still.
        first.check_echo("still here\n");
    }
    drop(silent);
    controlled
        .server
        .wait_for_closed(if dispatch == "sequential" { 2 } else { 1 });
    controlled.wait_for_status("the time-out", |status| status["failed"]["timeout"] == 1);
    check_sums(&controlled);
    drop(first);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo without sequential: a_connection_at_rest_is_closed }
fn a_connection_at_rest_is_closed(guest: Guest, dispatch: &str) {
    let options = ["--idle-timeout", "500ms"];
    let controlled = Controlled::start(guest, dispatch, &options);
    let (mut busy, mut idle) = (controlled.server.connect(), controlled.server.connect());
    idle.check_echo("once\n");
    // As long as the other one is open, this one moves bytes.
    let seen = thread::spawn(move || {
        idle.expect_eof();
    });
    while !seen.is_finished() {
        busy.check_echo("again\n");
    }
    seen.join().unwrap();
    busy.check_echo("still here\n");
    controlled.server.wait_for_closed(1);
    controlled.wait_for_status("the time-out", |status| status["failed"]["timeout"] == 1);
    check_sums(&controlled);
}

for_each_pair! { echo without sequential: a_connection_may_last_only_so_long }
fn a_connection_may_last_only_so_long(guest: Guest, dispatch: &str) {
    let options = ["--connection-timeout", "500ms"];
    let controlled = Controlled::start(guest, dispatch, &options);
    let mut busy = controlled.server.connect();
    let mut trips = 0;
    // However busy it is.
    loop {
        busy.send_some(b"x");
        if busy.drain_one().is_none() {
            break;
        }
        trips += 1;
    }
    assert!(trips > 0);
    drop(busy);
    controlled.server.wait_for_closed(1);
    controlled.wait_for_status("the time-out", |status| status["failed"]["timeout"] == 1);
    check_sums(&controlled);
}

for_each_pair! { echo without sequential: a_peer_that_takes_nothing_is_reset }
fn a_peer_that_takes_nothing_is_reset(guest: Guest, dispatch: &str) {
    let options = ["--write-timeout", "500ms", "--linger", "1h"];
    let controlled = Controlled::start(guest, dispatch, &options);
    let mut reader = controlled.server.connect();
    let mut stuck = Client::connect_narrow(controlled.server.address());
    let bytes = noise(1 << 20);
    stuck.send_until_stuck(&bytes.repeat(16));
    let number = number(&controlled, &stuck);
    controlled.wait_for_status("the time-out", |status| status["failed"]["timeout"] == 1);
    // Its own attempts to send may have met the reset before.
    assert!(stuck.drain().len() < 16 << 20);
    let log = |event: &crate::harness::log::Event| {
        event.message().contains("--write-timeout")
            && event.connection().map(|it| it.to_string()).as_ref() == Some(&number)
    };
    controlled.server.wait_for_log("why", log);
    // One that reads is not touched, however long it has been there.
    reader.check_echo("hello\n");
    controlled.server.wait_for_closed(1);
    check_sums(&controlled);
}

for_each_pair! { chat shared: members_hear_of_one_that_is_killed }
fn members_hear_of_one_that_is_killed(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &[]);
    let mut ann = controlled.server.connect();
    ann.expect(WELCOME);
    let mut bob = controlled.server.connect();
    bob.expect(WELCOME);
    ann.expect(format!("Client joined {}\r\n", bob.local()));
    let number = number(&controlled, &bob);
    controlled.command(["kill", &number]).printed();
    ann.expect(format!("Client left {}\r\n", bob.local()));
    assert!(bob.drain().is_empty());
}

#[test]
fn a_suspended_service_for_datagrams_ends_when_it_is_told() {
    let controlled = Controlled::listening(echo_datagram, "poll", &["udp://127.0.0.1:0"], &[]);
    controlled
        .command(["suspend", &controlled.name()])
        .printed();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(crate::harness::PATIENCE))
        .unwrap();
    socket.connect(controlled.server.address()).unwrap();
    socket.send(b"waiting").unwrap();
    controlled.server.terminate();
    let mut buffer = [0; 16];
    let count = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"waiting");
    assert_eq!(controlled.server.finish().status.code(), Some(0));
}

for_each_pair! { echo, echo_commands: a_suspended_service_accepts_later }
fn a_suspended_service_accepts_later(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &[]);
    let name = controlled.name();
    let mut old = controlled.server.connect();
    old.check_echo("before\n");
    let said = controlled.command(["suspend", &name]).printed();
    assert_eq!(said, [format!("{name} is suspended")]);
    assert_eq!(controlled.status()["state"], "suspended");
    // The kernel takes it, and what it sends.
    let mut new = controlled.server.connect();
    new.send("waiting\n");
    for _ in 0..3 {
        old.check_echo("served on\n");
        assert_eq!(controlled.status()["accepted"], 1);
    }
    assert!(new.is_silent());
    if dispatch == "sequential" {
        old.finish_sending();
        old.expect_eof();
    }
    let said = controlled.command(["resume", &name]).printed();
    assert_eq!(said, [format!("{name} is serving")]);
    new.expect("waiting\n");
    drop((old, new));
    controlled.server.stop().check_no_alarm();
}

#[test]
fn a_suspended_service_ends_when_it_is_told() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    controlled.command(["suspend", "echo"]).printed();
    // What the kernel has taken is served all the same.
    let mut waiting = controlled.server.connect();
    waiting.send("waiting\n");
    controlled.server.terminate();
    waiting.expect("waiting\n");
    waiting.finish_sending();
    waiting.expect_eof();
    let finished = controlled.server.finish();
    assert_eq!(finished.status.code(), Some(0));
}

#[test]
fn datagrams_wait_while_the_service_is_suspended() {
    let controlled = Controlled::listening(echo_datagram, "poll", &["udp://127.0.0.1:0"], &[]);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(crate::harness::PATIENCE))
        .unwrap();
    socket.connect(controlled.server.address()).unwrap();
    let mut buffer = [0; 16];
    let name = controlled.name();
    controlled.command(["suspend", &name]).printed();
    socket.send(b"later").unwrap();
    for _ in 0..3 {
        assert_eq!(controlled.status()["accepted"], 0);
    }
    controlled.command(["resume", &name]).printed();
    let count = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"later");
}

#[test]
fn a_drain_that_is_waited_for_returns_at_the_end() {
    for command in [&["drain", "echo", "--wait"][..], &["shutdown", "--wait"]] {
        let controlled = Controlled::start(echo_evented, "poll", &["--drain-timeout", "1h"]);
        let mut client = controlled.server.connect();
        client.check_echo("before\n");
        let said = thread::scope(|scope| {
            let waiting = scope.spawn(|| controlled.command(command).printed());
            controlled
                .server
                .wait_for_log("the drain", |event| event.message() == "drain requested");
            client.check_echo("after\n");
            assert!(!waiting.is_finished());
            client.finish_sending();
            client.expect_eof();
            waiting.join().unwrap()
        });
        assert_eq!(said, ["echo has ended"]);
        assert_eq!(controlled.server.finish().status.code(), Some(0));
    }
}

for_each_pair! { echo, echo_commands: the_access_log_has_a_line_per_connection }
fn the_access_log_has_a_line_per_connection(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .args(["--access-log", "all"])
        .start();
    let mut client = server.connect();
    let opened = server.wait_for_open(&client);
    client.check_echo("12345\n");
    client.finish_sending();
    client.expect_eof();
    drop(client);
    server.wait_for_closed(1);
    let reset = server.connect();
    server.wait_for_open(&reset);
    reset.reset();
    server.wait_for_closed(2);
    let finished = server.stop();
    let lines: Vec<_> = finished
        .log
        .iter()
        .filter(|event| event.message() == "connection ended")
        .collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    let line = lines[0];
    assert_eq!(line.connection(), opened.connection());
    assert_eq!(
        (line.str("outcome"), line.str("peer")),
        ("ok", opened.str("peer"))
    );
    let numbers = ["version", "bytes_in", "bytes_out"].map(|field| line.number(field));
    assert_eq!(numbers, [Some(1), Some(6), Some(6)]);
    assert!(line.number("milliseconds").is_some());
    let failed = lines[1];
    assert_eq!(failed.str("outcome"), "failed");
    assert!(!failed.str("reason").is_empty());
}

/// How many connections of six, of which one is killed, have a line.
fn lines_of_six(which: &str) -> usize {
    let controlled = Controlled::start(echo_evented, "poll", &["--access-log", which]);
    let mut clients: Vec<_> = (0..6).map(|_| controlled.server.connect()).collect();
    for client in &mut clients {
        client.check_echo("hello\n");
    }
    let number = number(&controlled, &clients[0]);
    controlled.command(["kill", &number]).printed();
    for client in &mut clients[1..] {
        client.finish_sending();
        client.expect_eof();
    }
    drop(clients);
    controlled.server.wait_for_closed(6);
    let finished = controlled.server.stop();
    let is_line = |event: &&crate::harness::log::Event| event.message() == "connection ended";
    finished.log.iter().filter(is_line).count()
}

#[test]
fn the_access_log_is_off_or_has_some() {
    assert_eq!(lines_of_six("off"), 0);
    assert_eq!(lines_of_six("failed"), 1);
    assert_eq!(lines_of_six("1/3"), 2);
    assert_eq!(lines_of_six("1/1"), 6);
}
