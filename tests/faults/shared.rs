//! Faults where one instance serves all connections: it is replaced, and its
//! connections, of which the log says how many, go with it.

use rustix::process::Signal;

use super::{
    BLOCK, Death, ERROR, HOG, SPIN, TRAP, TRAP_OPEN, TRIGGER, check_only_alarm, saying, serve,
};
use crate::harness::guests::faults_evented;
use crate::harness::{Client, Guest, slow};

/// A fault on one of three connections: all get end of file, the next three are
/// served by a new instance, and the log says it once.
#[track_caller]
fn check(guest: Guest, dispatch: &str, death: &Death) {
    let server = serve(guest, dispatch, death.mode, 3)
        .args(death.options)
        .start();
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.check_echo("before");
    }
    clients[1].send(TRIGGER);
    for client in &mut clients {
        client.expect_eof();
    }
    drop(clients);
    // All three permits are back.
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.check_echo("after");
    }
    drop(clients);
    let finished = server.stop();
    let alarms = finished.alarms();
    assert_eq!(alarms.len(), 1, "{alarms:#?}");
    let expected = format!(
        "instance died and its connections are closed: {}",
        death.reason
    );
    assert_eq!(alarms[0].message(), expected);
    assert_eq!(alarms[0].number("connections"), Some(3));
    assert_eq!(alarms[0].str("fault"), "guest");
    let counts = ["accepted", "handled", "failed"];
    let last = finished.log.last().unwrap();
    assert_eq!(counts.map(|field| last.number(field).unwrap()), [6, 3, 3]);
}

for_each_pair! { faults shared: a_trap_ends_the_instance }
fn a_trap_ends_the_instance(guest: Guest, dispatch: &str) {
    check(guest, dispatch, &TRAP);
}

for_each_pair! { faults shared: a_spin_past_the_deadline_ends_the_instance }
fn a_spin_past_the_deadline_ends_the_instance(guest: Guest, dispatch: &str) {
    check(guest, dispatch, &SPIN);
}

for_each_pair! { faults shared: memory_past_the_limit_ends_the_instance }
fn memory_past_the_limit_ends_the_instance(guest: Guest, dispatch: &str) {
    check(guest, dispatch, &HOG);
}

#[test]
fn a_turn_that_waits_past_the_deadline_ends_the_instance() {
    check(faults_evented, "poll", &BLOCK);
}

for_each_pair! { faults shared: a_trap_at_the_start_is_told_each_time }
fn a_trap_at_the_start_is_told_each_time(guest: Guest, dispatch: &str) {
    let server = serve(guest, dispatch, TRAP_OPEN.mode, 1).start();
    for _ in 0..5 {
        server.connect().expect_eof();
    }
    let finished = server.stop();
    let told: Vec<_> = saying(&finished.log, TRAP_OPEN.reason)
        .iter()
        .map(|event| event.number("connections"))
        .collect();
    assert_eq!(told, [Some(1); 5]);
}

for_each_pair! { faults shared: an_error_ends_one_connection }
/// What a guest returns, or tells with `fail`, is no death: the others on the
/// instance go on.
fn an_error_ends_one_connection(guest: Guest, dispatch: &str) {
    let server = serve(guest, dispatch, "MODE=err", 2).start();
    let mut healthy = server.connect();
    healthy.check_echo("before");
    let mut faulty = server.connect();
    let peer = faulty.local().to_string();
    faulty.send(TRIGGER);
    faulty.expect_eof();
    drop(faulty);
    healthy.check_echo("after");
    server.connect().check_echo("next");
    drop(healthy);
    check_only_alarm(&server.stop(), Some(2), &peer, ERROR);
}

/// Dropping socket and streams closes the connection as well as saying so.
#[test]
fn a_leak_ends_one_connection() {
    let server = serve(faults_evented, "poll", "MODE=leak", 2).start();
    let mut healthy = server.connect();
    healthy.check_echo("before");
    for _ in 0..3 {
        let mut faulty = server.connect();
        faulty.check_echo("still well");
        faulty.send(TRIGGER);
        faulty.expect_eof();
    }
    healthy.check_echo("after");
    drop(healthy);
    server.stop().check_no_alarm();
}

/// The timer of `evented`: it comes again as long as the guest asks for it.
#[test]
fn ticks_come_to_every_connection() {
    let server = serve(faults_evented, "poll", "MODE=tick", 3).start();
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for _ in 0..3 {
        for client in &mut clients {
            client.expect("tick\r\n");
        }
    }
    drop(clients);
    // It has stopped with the last one, and starts with the next.
    server.wait_for_closed(3);
    server.connect().expect("tick\r\n");
    server.stop();
}

/// A turn reads only for a while, so that peers cannot make it longer than the deadline.
// From: the deadline that 200 peers with many short lines reached.
#[test]
fn a_slow_handler_serves_all_that_many_send_at_once() {
    let server = serve(faults_evented, "poll", "MODE=slow", 100).start();
    slow::check_deadline(&server);
    server.stop().check_no_alarm();
}

/// The next turn begins with a connection that was not read.
#[test]
fn who_sends_much_to_a_slow_handler_keeps_no_other_waiting() {
    let server = serve(faults_evented, "poll", "MODE=slow", 100).start();
    // Of 1 KiB each, and at most 16 in one visit.
    slow::check_fairness(&server, 64 * 1024, 16);
}

/// What a handler does for a new connection cannot be put off to the next turn. So a turn opens
/// 64 at most, however many have come. Who is there already is served before the rest.
#[test]
fn a_turn_opens_a_part_of_those_that_come_at_once() {
    const PEERS: usize = 300;
    let server = serve(faults_evented, "poll", "MODE=crowd", PEERS as u32 + 1).start();
    let number = |client: &mut Client| -> usize { client.line().trim_end().parse().unwrap() };
    let mut first = server.connect();
    assert_eq!(number(&mut first), 1);
    // So that all of them are there.
    server.process.signal(Signal::STOP);
    first.send("?");
    let mut clients: Vec<Client> = (0..PEERS).map(|_| server.connect()).collect();
    server.process.signal(Signal::CONT);
    let opened = number(&mut first);
    assert!(opened <= 1 + 2 * 64, "{opened}");
    let most = clients.iter_mut().map(number).max().unwrap();
    // While a turn computes, others are accepted.
    assert!((2..=64).contains(&most), "{most}");
    for client in &mut clients {
        client.send("!");
        assert_eq!(number(client), 1 + PEERS);
        client.expect("!");
    }
    drop((first, clients));
    server.stop().check_no_alarm();
}
