//! What TCP does to a server: half-closes, resets, single bytes, much data in
//! both directions, IPv6, several listeners, a limit on connections.

use crate::harness::guests::{echo_blocking, echo_concurrent, echo_evented, faults_blocking};
use crate::harness::guests::{faults_concurrent, faults_evented, pairs};
use crate::harness::{Client, Guest, Serve, Server, noise};

const ECHO: [Guest; 3] = [echo_blocking, echo_evented, echo_concurrent];
const FAULTS: [Guest; 3] = [faults_blocking, faults_evented, faults_concurrent];

/// Gives a stream echo in each contract under each dispatch to `check`. Nothing
/// may go wrong in any of them.
#[track_caller]
fn each(check: impl Fn(&Server)) {
    for (guest, dispatch) in pairs(&ECHO) {
        println!("{} under {dispatch}", guest.name);
        let server = Serve::guest(guest, dispatch).start();
        check(&server);
        server.stop().check_no_alarm();
    }
}

/// Sends `bytes` and, at the same time, reads them back to the end of file.
#[track_caller]
fn check_full_duplex(client: &mut Client, bytes: &[u8]) {
    let mut sender = client.another();
    let echoed = std::thread::scope(|scope| {
        scope.spawn(move || {
            sender.send(bytes);
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

#[test]
fn megabytes_go_both_ways_at_once() {
    let bytes = noise(5_000_001);
    each(|server| check_full_duplex(&mut server.connect(), &bytes));
}

#[test]
fn several_peers_stream_at_once() {
    let bytes = noise(1_000_003);
    for (guest, dispatch) in pairs(&ECHO) {
        if dispatch == "sequential" {
            continue;
        }
        let server = Serve::guest(guest, dispatch).start();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| check_full_duplex(&mut server.connect(), &bytes));
            }
        });
        server.stop().check_no_alarm();
    }
}

/// A peer that sends until nobody takes any more, and only then reads: nothing
/// is lost, and the server keeps no more of it than the kernel.
#[test]
fn a_peer_that_reads_late_gets_everything() {
    let bytes = noise(16 << 20);
    each(|server| {
        let mut client = server.connect();
        let mut sender = client.another();
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| {
                sender.send(&bytes);
                sender.finish_sending();
            });
            // All buffers are full when it has to wait.
            client.wait_until_stuck(&bytes, || sending.is_finished());
            let echoed = client.read_to_end();
            assert!(
                echoed == bytes,
                "{} of {} bytes came back",
                echoed.len(),
                bytes.len()
            );
        });
    });
}

#[test]
fn a_peer_may_send_one_byte_at_a_time() {
    each(|server| {
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
    });
}

/// The peer's FIN is the guest's end of file, and what the guest says after it
/// still arrives.
#[test]
fn a_peer_may_half_close_and_still_read() {
    for (guest, dispatch) in pairs(&FAULTS) {
        println!("{} under {dispatch}", guest.name);
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
}

/// The guest's FIN is the peer's end of file, and what the peer says after it
/// still arrives.
#[test]
fn a_guest_may_half_close_and_still_read() {
    for (guest, dispatch) in pairs(&[faults_blocking]) {
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
}

/// A peer that resets, at any moment, costs nobody anything.
#[test]
fn a_peer_may_reset() {
    for (guest, dispatch) in pairs(&ECHO) {
        println!("{} under {dispatch}", guest.name);
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
}

#[test]
fn ipv6_is_served() {
    for (guest, dispatch) in pairs(&ECHO) {
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
}

#[test]
fn one_service_may_have_several_listeners() {
    for (guest, dispatch) in pairs(&ECHO) {
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
}

/// At the limit the next peer waits in the backlog, and is served when a
/// connection ends.
#[test]
fn connections_are_limited() {
    for (guest, dispatch) in pairs(&ECHO) {
        if dispatch == "sequential" {
            continue;
        }
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
        let place = |connection, message: &str| {
            let about = |event: &&crate::harness::log::Event| {
                event.connection() == Some(connection) && event.message() == message
            };
            finished.log.iter().position(|event| about(&event)).unwrap()
        };
        assert!(place(1, "connection closed") < place(3, "connection opened"));
    }
}
