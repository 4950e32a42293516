//! Limits at which peers wait in the backlog: the pace of the service, and the load of
//! the machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use rustix::process::Signal;

use super::{check_sums, start};
use crate::harness::guests::{echo_blocking, echo_evented};
use crate::harness::{Client, Guest, PATIENCE};

const HELD_UP: &str = "accepting is held up, peers wait in the backlog";

for_each_pair! {
    echo [blocking_threaded, concurrent_poll, evented_poll]:
    peers_beyond_the_pace_wait_and_are_served
}
fn peers_beyond_the_pace_wait_and_are_served(guest: Guest, dispatch: &str) {
    let pace = ["--connections-per-second", "1", "--burst", "2"];
    let controlled = start(guest, dispatch, &pace);
    // All are there at once when it begins to accept.
    controlled.server.process.signal(Signal::STOP);
    let clients: Vec<Client> = (0..4).map(|_| controlled.server.connect()).collect();
    controlled.server.process.signal(Signal::CONT);
    let held_up = controlled
        .server
        .wait_for_log("the pace", |event| event.message() == HELD_UP);
    assert_eq!(held_up.str("reason"), "--connections-per-second");
    assert_eq!(held_up.str("level"), "WARN");
    for mut client in clients {
        client.check_echo("hello");
    }
    check_sums(&controlled, 4, "rules", 0);
    let finished = controlled.server.stop();
    let said = |message| {
        finished
            .log
            .iter()
            .filter(|it| it.message() == message)
            .count()
    };
    assert_eq!(said(HELD_UP), 1);
    assert!(said("accepting was held up again") <= 1);
}

/// During the pause nobody is accepted; and whoever waits when the service drains is
/// served, since for them there is no later.
#[test]
fn a_pause_holds_everybody_up() {
    let pace = [
        "--connections-per-second",
        "1",
        "--burst",
        "1",
        "--pause",
        "1h",
    ];
    let controlled = start(echo_blocking, "threaded", &pace);
    // Both are there when the first is accepted, however slow the machine is.
    controlled.server.process.signal(Signal::STOP);
    let mut first = controlled.server.connect();
    let mut waiting = controlled.server.connect();
    waiting.send("patient");
    controlled.server.process.signal(Signal::CONT);
    first.check_echo("hello");
    controlled
        .server
        .wait_for_log("the pause", |event| event.message() == HELD_UP);
    assert!(waiting.is_silent());
    check_sums(&controlled, 1, "rules", 0);
    controlled.server.terminate();
    waiting.expect("patient");
    drop((first, waiting));
    let finished = controlled.server.finish();
    assert_eq!(finished.status.code(), Some(0));
    assert_eq!(finished.log.last().unwrap().number("accepted"), Some(2));
}

/// Tells a thread to end when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nobody_is_accepted_while_the_load_is_high() {
    let controlled = start(echo_evented, "poll", &["--max-load", "0.01"]);
    // One thread that computes is a load, which the kernel looks at every five seconds.
    let begun = Instant::now();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        // Also if the test fails.
        let _ends = Ends(&over);
        let held_up = loop {
            // Before the load is seen they are accepted.
            let mut client = controlled.server.connect();
            client.send("hello");
            let held_up = loop {
                let log = controlled.server.process.stderr.lines();
                let said = log.into_iter().find(|line| line.contains(HELD_UP));
                if said.is_some() || !client.is_silent() {
                    break said;
                }
                thread::yield_now();
            };
            if let Some(said) = held_up {
                break said;
            }
            assert!(begun.elapsed() < PATIENCE);
        };
        assert!(held_up.contains("--max-load"), "{held_up}");
    });
    let mut waiting = controlled.server.connect();
    waiting.send("patient");
    controlled.server.terminate();
    waiting.expect("patient");
    drop(waiting);
    controlled.server.finish();
}

/// A load that no machine has holds nobody up.
#[test]
fn a_load_that_is_not_reached_holds_nobody_up() {
    let controlled = start(echo_evented, "poll", &["--max-load", "1000000"]);
    for _ in 0..3 {
        controlled.server.connect().check_echo("hello");
    }
    controlled.server.stop().check_no_alarm();
}
