//! What TCP does to a server: half-closes, resets, single bytes, much data in
//! both directions, IPv6, several listeners, a limit on connections.

use std::time::Instant;

use crate::harness::guests::echo_evented;
use crate::harness::{Client, Guest, PATIENCE, Serve, noise};

/// Sends `bytes`, of which so many are sent already, and reads all of them back to
/// the end of file at the same time.
#[track_caller]
fn check_full_duplex(client: &mut Client, bytes: &[u8], sent: usize) {
    let mut sender = client.another();
    let echoed = std::thread::scope(|scope| {
        scope.spawn(move || {
            sender.send(&bytes[sent..]);
            sender.finish_sending();
        });
        client.read_to_end()
    });
    // No `assert_eq`, which would print it all.
    assert!(
        echoed == bytes,
        "{} of {} bytes came back",
        echoed.len(),
        bytes.len()
    );
}

for_each_pair! { echo, echo_commands: megabytes_go_both_ways_at_once }
fn megabytes_go_both_ways_at_once(guest: Guest, dispatch: &str) {
    let bytes = noise(5_000_001);
    let server = Serve::guest(guest, dispatch).start();
    check_full_duplex(&mut server.connect(), &bytes, 0);
    server.stop().check_no_alarm();
}

for_each_pair! { echo without sequential, echo_commands without sequential: several_peers_stream_at_once }
fn several_peers_stream_at_once(guest: Guest, dispatch: &str) {
    let bytes = noise(1_000_003);
    let server = Serve::guest(guest, dispatch).start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| check_full_duplex(&mut server.connect(), &bytes, 0));
        }
    });
    server.stop().check_no_alarm();
}

for_each_pair! { echo, echo_commands: a_peer_that_reads_late_gets_everything }
/// A peer that sends until nobody takes any more, and only then reads: nothing
/// is lost, and the server keeps no more of it than the kernel.
fn a_peer_that_reads_late_gets_everything(guest: Guest, dispatch: &str) {
    let bytes = noise(24 << 20);
    let server = Serve::guest(guest, dispatch).start();
    let mut client = server.connect();
    let sent = client.send_until_stuck(&bytes);
    assert!(sent < bytes.len(), "the server took everything");
    check_full_duplex(&mut client, &bytes, sent);
    drop(client);
    server.stop().check_no_alarm();
}

for_each_pair! { echo, echo_commands: a_peer_may_send_one_byte_at_a_time }
fn a_peer_may_send_one_byte_at_a_time(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).start();
    let mut client = server.connect();
    for byte in noise(500) {
        client.check_echo([byte]);
    }
    // And without waiting for the answers.
    let bytes = noise(2000);
    for byte in &bytes {
        client.send([*byte]);
    }
    client.expect(&bytes);
    drop(client);
    server.stop().check_no_alarm();
}

for_each_pair! { faults: a_peer_may_half_close_and_still_read }
/// The peer's FIN is the guest's end of file, and what the guest says after it
/// still arrives.
fn a_peer_may_half_close_and_still_read(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch).env("MODE=half-close").start();
    let bytes = noise(300_000);
    let mut client = server.connect();
    client.send(&bytes);
    client.finish_sending();
    let answer = client.read_to_end();
    assert!(
        answer == bytes,
        "{} of {} bytes came back",
        answer.len(),
        bytes.len()
    );
    drop(client);
    server.stop().check_no_alarm();
}

for_each_pair! { faults blocking: a_guest_may_half_close_and_still_read }
/// The guest's FIN is the peer's end of file, and what the peer says after it
/// still arrives.
fn a_guest_may_half_close_and_still_read(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .env("MODE=shutdown-send")
        .start();
    let mut client = server.connect();
    assert_eq!(client.read_to_end(), b"bye\r\n");
    client.send(noise(100_000));
    client.finish_sending();
    let line = server.wait_for_log("what the guest has read", |event| event.is_guest());
    assert_eq!(line.message(), "read 100000 bytes after shutdown");
    drop(client);
    server.stop().check_no_alarm();
}

for_each_pair! { echo, echo_commands: a_peer_may_reset }
/// A peer that resets, at any moment, costs nobody anything.
fn a_peer_may_reset(guest: Guest, dispatch: &str) {
    // With a single permit the next one waits until this one is over.
    let server = Serve::guest(guest, dispatch)
        .args(["--max-connections", "1"])
        .start();
    server.connect().reset();
    let mut client = server.connect();
    client.check_echo("hello");
    client.reset();
    let mut client = server.connect();
    client.send(noise(100_000));
    client.reset();
    let mut client = server.connect();
    client.finish_sending();
    client.reset();
    server.connect().check_echo("still there");
    let finished = server.stop();
    // It may be told, as the peer's doing, but never as the end of more.
    for alarm in finished.alarms() {
        assert!(
            alarm.message().starts_with("connection failed: "),
            "{alarm:?}"
        );
        assert!(alarm.connection().is_some(), "{alarm:?}");
    }
}

for_each_pair! { echo, echo_commands: ipv6_is_served }
fn ipv6_is_served(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .listen("tcp://[::1]:0")
        .start();
    assert!(
        server.ready[0].starts_with("listening tcp://[::1]:"),
        "{:?}",
        server.ready
    );
    let mut client = server.connect();
    client.check_echo("hello");
    server.wait_for_open(&client);
    drop(client);
    server.stop().check_no_alarm();
}

for_each_pair! { echo, echo_commands: one_service_may_have_several_listeners }
fn one_service_may_have_several_listeners(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .listen("tcp://127.0.0.1:0")
        .listen("tcp://[::1]:0")
        .listen("tcp://localhost:0")
        .start();
    assert!(server.addresses[0].is_ipv4() && server.addresses[1].is_ipv6());
    // One after the other, for `sequential`.
    for address in &server.addresses {
        Client::connect(*address).check_echo("hello");
    }
    server.stop().check_no_alarm();
}

for_each_pair! { echo without sequential, echo_commands without sequential: connections_are_limited }
/// At the limit the next peer waits in the backlog, and is served when a
/// connection ends.
fn connections_are_limited(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .args(["--max-connections", "2"])
        .start();
    let mut first = server.connect();
    first.check_echo("first");
    let mut second = server.connect();
    second.check_echo("second");
    let mut third = server.connect();
    third.send("third");
    second.check_echo("second again");
    assert!(third.is_silent());
    drop(first);
    third.expect("third");
    drop((second, third));
    // That the third was not let in before is in the order of the log.
    let finished = server.stop();
    finished.check_no_alarm();
    assert!(finished.place(1, "connection closed") < finished.place(3, "connection opened"));
}

/// A peer that has vanished is found out in the end, because the kernel asks for it.
// From: case 36.
#[test]
fn accepted_sockets_have_keep_alive_on() {
    let server = Serve::guest(echo_evented, "poll").start();
    let mut client = server.connect();
    client.check_echo("hello");
    // Both are on 127.0.0.1, as the kernel writes it.
    let ports = [server.port(), client.local().port()];
    let both = ports.map(|port| format!("0100007F:{port:04X}")).join(" ");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let row = table.lines().find(|line| line.contains(&both)).unwrap();
        // The timer is 01 as long as the answer is not acknowledged.
        if row.split_whitespace().nth(5).unwrap().starts_with("02:") {
            break;
        }
        assert!(Instant::now() < deadline, "no timer of keep-alive: {row}");
        std::thread::yield_now();
    }
}
