//! Guests for datagrams that fail, or that send what they may not send.

use std::net::UdpSocket;

use super::{Peer, datagrams, start, wait_for};
use crate::harness::control::failed;
use crate::harness::{Guest, PATIENCE, text};

const LOOPBACK: &str = "udp://127.0.0.1:0";

for_each_pair! { faults_datagrams: a_failure_costs_its_own_batch }
/// Trap, deadline, memory and an error: the batch is lost and counted, and the next one
/// is served.
fn a_failure_costs_its_own_batch(guest: Guest, dispatch: &str) {
    // On a busy machine, too, the memory is full before the deadline.
    let options = ["--deadline", "300ms", "--max-memory", "8MiB"];
    let controlled = start(guest, dispatch, LOOPBACK, &options);
    let peer = Peer::of(controlled.server.address());
    let is_concurrent = guest.contract() == "datagram-concurrent";
    let faults = [
        ("trap", "trap"),
        ("spin", "deadline"),
        ("grow", "memory"),
        (
            "err on purpose",
            if is_concurrent { "trap" } else { "error" },
        ),
    ];
    for (number, (fault, _)) in (1..).zip(faults) {
        peer.send(fault);
        // Otherwise the next one may be in the same batch.
        controlled.wait_for_status(fault, |status| failed(status) == number);
        peer.check("still there", "still there");
    }
    // One that has just ended is counted twice for a moment: it is still open.
    let status = controlled.wait_for_status("the end", |status| {
        failed(status) == 4 && status["handled"] == 4 && status["open"] == 0
    });
    for (fault, reason) in faults {
        assert_ne!(status["failed"][reason], 0, "{fault}: {status}");
    }
    assert_eq!(status["accepted"], 8);
    assert_eq!(status["handled"], 4);
    let finished = controlled.server.stop();
    assert_eq!(finished.alarms().len(), 4, "{:#?}", finished.alarms());
}

for_each_pair! { faults_datagrams [datagram_concurrent_poll, datagram_concurrent_threaded]: an_instance_that_reads_nothing_costs_what_it_was_made_for }
/// Another one would end in the same way, without end.
fn an_instance_that_reads_nothing_costs_what_it_was_made_for(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, LOOPBACK, &["--env", "TRAP=1"]);
    let peer = Peer::of(controlled.server.address());
    for number in 1..=3 {
        peer.send("x");
        controlled.wait_for_status("its end", |status| failed(status) == number);
    }
    let status = controlled.status();
    assert_eq!(status["failed"]["trap"], 3);
    assert_eq!(status["open"], 0);
    let finished = controlled.server.stop();
    assert_eq!(finished.alarms().len(), 3, "{:#?}", finished.alarms());
}

for_each_pair! { faults_datagrams [datagram_concurrent_poll]: a_handler_that_reads_nothing_does_not_hold_up_a_swap }
/// Datagrams go to the next version at once, and the old one finishes. A shared instance
/// is no connection.
fn a_handler_that_reads_nothing_does_not_hold_up_a_swap(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, LOOPBACK, &["--max-connections", "1"]);
    let slow = Peer::of(controlled.server.address());
    // For longer than the swap waits for what the instance knows.
    slow.send("sleep 3000");
    controlled.wait_for_status("it waits", |status| status["open"] == 1);
    controlled.swap(guest.in_family("echo").path(), &[]);
    let fast = Peer::of(controlled.server.address());
    fast.check("count", "count");
    assert_eq!(controlled.status()["versions"].as_array().unwrap().len(), 2);
    assert_eq!(text(slow.receive()), "slept");
    controlled.wait_for_status("the old one's end", |status| {
        status["versions"].as_array().unwrap().len() == 1
    });
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_datagrams [datagram_concurrent_poll]: instances_that_end_slowly_are_no_more_than_there_is_room_for }
/// Each reads one batch and answers it later. Those that find no room wait.
fn instances_that_end_slowly_are_no_more_than_there_is_room_for(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, LOOPBACK, &["--env", "BRIEF=500"]);
    let peer = Peer::of(controlled.server.address());
    for number in 1..=4 {
        peer.send("early");
        // Otherwise the next one may be in the same batch.
        controlled.wait_for_status("it is read", |status| status["accepted"] == number);
    }
    for _ in 0..4 {
        peer.send("late");
    }
    for _ in 0..4 {
        assert_eq!(text(peer.receive()), "early");
    }
    for _ in 0..4 {
        assert_eq!(text(peer.receive()), "late");
    }
    controlled.wait_for_status("all", |status| status["handled"] == 8);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_datagrams: instances_are_shared_under_poll_only }
fn instances_are_shared_under_poll_only(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, LOOPBACK, &[]);
    let peer = Peer::of(controlled.server.address());
    for number in 1..=3 {
        let shared = guest.shares_instance(dispatch);
        peer.check("count", if shared { number } else { 1 }.to_string());
    }
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_datagrams: a_handler_sends_as_much_as_it_may }
fn a_handler_sends_as_much_as_it_may(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, LOOPBACK, &[]);
    let peer = Peer::of(controlled.server.address());
    peer.send("many 20");
    let mut seen: Vec<u32> = (0..20)
        .map(|_| String::from_utf8(peer.receive()).unwrap().parse().unwrap())
        .collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(1..=20));
    peer.send("big 65507");
    assert_eq!(peer.receive().len(), 65_507);
    // The system does not send this one.
    peer.send("big 65508");
    peer.check("empty", "");
    peer.send("silent");
    peer.check_silence();
    let status = wait_for(&controlled, "unsent", 1);
    assert_eq!(datagrams(&status, "unsent"), 1);
    let own = peer.0.local_addr().unwrap();
    let server = controlled.server.address();
    peer.check("who", format!("{own} {server}"));
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_datagrams [datagram_poll, datagram_threaded]: a_printed_line_names_its_sender }
fn a_printed_line_names_its_sender(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, LOOPBACK, &[]);
    let peers = [0; 2].map(|_| Peer::of(controlled.server.address()));
    for peer in &peers {
        peer.send("who");
        // Two would be in one batch, which is about nobody in particular.
        peer.receive();
    }
    for peer in &peers {
        let own = peer.0.local_addr().unwrap().to_string();
        let line = format!("it was {own}");
        controlled.server.wait_for_log("its line", |event| {
            event.is_guest() && event.message() == line && event.str("peer") == own
        });
    }
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_datagrams [datagram_poll, datagram_threaded, datagram_sequential]: an_answer_of_too_many_bytes_traps }
/// The contract says how many are too many.
fn an_answer_of_too_many_bytes_traps(guest: Guest, dispatch: &str) {
    let options = ["--max-memory", "128MiB"];
    let controlled = start(guest, dispatch, LOOPBACK, &options);
    let peer = Peer::of(controlled.server.address());
    // 17 MiB are 272 of them, and a little.
    peer.send("flood 273");
    let status = controlled.wait_for_status("the end", |status| failed(status) == 1);
    assert_eq!(status["failed"]["trap"], 1, "{status}");
    assert_eq!(datagrams(&status, "sent"), 0);
    peer.check("still there", "still there");
    // Some of these are lost: there is no room for them at the peer.
    peer.send("flood 256");
    controlled.wait_for_status("the answers", |status| datagrams(status, "sent") == 257);
    let finished = controlled.server.stop();
    let alarms = finished.alarms();
    assert_eq!(alarms.len(), 1, "{alarms:#?}");
}

for_each_pair! { faults_datagrams: who_has_not_written_is_not_written_to }
fn who_has_not_written_is_not_written_to(guest: Guest, dispatch: &str) {
    let third = UdpSocket::bind("127.0.0.1:0").unwrap();
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    let place = third.local_addr().unwrap();
    let controlled = start(guest, dispatch, LOOPBACK, &[]);
    let peer = Peer::of(controlled.server.address());
    let refused = [
        format!("to {place} hello"),
        "to 224.0.0.1:5000 hello".to_owned(),
        "to 255.255.255.255:5000 hello".to_owned(),
        "to 0.0.0.0:5000 hello".to_owned(),
        "from 127.0.0.2:5000 hello".to_owned(),
        "from 10.0.0.1:80 hello".to_owned(),
    ];
    for command in &refused {
        peer.send(command);
        peer.check_silence();
    }
    let status = wait_for(&controlled, "refused", refused.len() as u64);
    assert_eq!(datagrams(&status, "refused"), refused.len() as u64);
    // One who writes may be written to, by whomever it was asked.
    third.send_to(b"x", controlled.server.address()).unwrap();
    let mut data = [0; 100];
    assert_eq!(third.recv(&mut data).unwrap(), 1);
    peer.send(format!("to {place} hello"));
    let length = third.recv(&mut data).unwrap();
    assert_eq!(text(&data[..length]), "hello");
    controlled.server.stop().check_no_alarm();

    // And anybody to whom a grant says so.
    let grant = ["--allow-send", &place.to_string()];
    let controlled = start(guest, dispatch, LOOPBACK, &grant);
    let peer = Peer::of(controlled.server.address());
    peer.send(format!("to {place} granted"));
    let length = third.recv(&mut data).unwrap();
    assert_eq!(text(&data[..length]), "granted");
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_datagrams [datagram_poll, datagram_concurrent_poll]: an_answer_can_come_later }
/// To a peer of an earlier batch.
fn an_answer_can_come_later(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, LOOPBACK, &[]);
    let ann = Peer::of(controlled.server.address());
    let bob = Peer::of(controlled.server.address());
    ann.send("later for ann");
    // Otherwise the next one may be in the same batch.
    controlled.wait_for_status("ann's", |status| status["handled"] == 1);
    bob.check("hello", "hello");
    assert_eq!(text(ann.receive()), "for ann");
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_datagrams: a_handler_that_waits }
/// Under `datagram` and `poll` it must not; elsewhere others are served meanwhile, but
/// under `sequential`.
fn a_handler_that_waits(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, LOOPBACK, &["--deadline", "200ms"]);
    let slow = Peer::of(controlled.server.address());
    slow.send("sleep 600");
    if guest.contract() == "datagram" && dispatch == "poll" {
        let status = controlled.wait_for_status("the end", |status| failed(status) == 1);
        assert_eq!(status["failed"]["deadline"], 1);
        slow.check("hello", "hello");
        return;
    }
    let fast = Peer::of(controlled.server.address());
    fast.check("hello", "hello");
    assert_eq!(text(slow.receive()), "slept");
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_datagrams [datagram_concurrent_sequential, datagram_concurrent_threaded]: a_drain_timeout_of_nothing_is_for_a_drain_only }
fn a_drain_timeout_of_nothing_is_for_a_drain_only(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, LOOPBACK, &["--drain-timeout", "0s"]);
    let peer = Peer::of(controlled.server.address());
    peer.check("sleep 100", "slept");
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_datagrams without sequential: a_service_that_is_told_to_end_ends }
/// Whatever its guest does; and what is being served is finished.
fn a_service_that_is_told_to_end_ends(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, LOOPBACK, &["--deadline", "10s"]);
    let peer = Peer::of(controlled.server.address());
    peer.send("sleep 300");
    controlled.wait_for_status("it waits", |status| status["open"] == 1);
    controlled.server.terminate();
    assert_eq!(text(peer.receive()), "slept");
    let finished = controlled.server.finish();
    assert_eq!(finished.status.code(), Some(0));
    finished.check_no_alarm();
}

for_each_pair! { faults_datagrams [datagram_threaded, datagram_concurrent_threaded]: a_slow_handler_grows_nothing }
/// When all permits are out, nothing more is received.
fn a_slow_handler_grows_nothing(guest: Guest, dispatch: &str) {
    let options = ["--max-connections", "2", "--deadline", "10s"];
    let controlled = start(guest, dispatch, LOOPBACK, &options);
    let peer = Peer::of(controlled.server.address());
    for _ in 0..6 {
        peer.send("sleep 200");
    }
    for _ in 0..6 {
        let status = controlled.status();
        assert!(status["open"].as_u64().unwrap() <= 2, "{status}");
        assert_eq!(text(peer.receive()), "slept");
    }
    controlled.server.stop().check_no_alarm();
}
