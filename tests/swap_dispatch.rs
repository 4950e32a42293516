//! A swap that changes the dispatch: other threads, and other turns, for the connections that
//! are open.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::harness::command::Outcome;
use crate::harness::control::{Controlled, refusal};
use crate::harness::guests::{
    echo_blocking, echo_concurrent, echo_datagram, echo_evented, kv_concurrent,
};
use crate::harness::{Guest, PATIENCE, come_and_go};

const DISPATCHES: [&str; 3] = ["sequential", "threaded", "poll"];

fn command(controlled: &Controlled, command: &str, options: &[&str]) -> Outcome {
    let name = controlled.name();
    controlled.command([&[command, &name], options].concat())
}

/// Changes the dispatch, which works.
#[track_caller]
fn change(controlled: &Controlled, dispatch: &str) {
    let printed = command(controlled, "swap", &["--dispatch", dispatch, "--json"]).printed();
    let swapped: Value = serde_json::from_str(&printed[0]).unwrap();
    assert_eq!(swapped["old"], "hand-over", "{swapped}");
    assert_eq!(controlled.status()["dispatch"], dispatch);
}

/// How many threads of the process are workers of the service.
fn workers(controlled: &Controlled) -> usize {
    let tasks = format!("/proc/{}/task", controlled.server.process.id());
    let names = std::fs::read_dir(tasks).unwrap().filter_map(|task| {
        // One may end meanwhile.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    names
        .filter(|name| name.trim_end() == "worker-echo")
        .count()
}

/// Half a line before the change, and half a line after it.
#[track_caller]
fn check_change(guest: Guest, from: &str, to: &str) {
    println!("{} {from} to {to}", guest.contract());
    let options = ["--env", "MODE=line", "--drain-timeout", "1h"];
    let controlled = Controlled::start(guest, from, &options);
    let mut open = controlled.server.connect();
    open.send("half ");
    controlled.wait_for_bytes_in(5);
    change(&controlled, to);
    // Without a turn a connection stays where it is.
    if to == "sequential" {
        assert_eq!(crate::harness::control::open(&controlled.status()), [1, 0]);
    } else {
        controlled.wait_for_settled(1);
    }
    open.send("a line\n");
    open.expect("half a line\n");
    let mut new = controlled.server.connect();
    new.check_echo("new\n");
    open.send("and ");
    controlled.wait_for_bytes_in(5 + 7 + 4 + 4);
    // The version before comes back with its dispatch.
    command(&controlled, "rollback", &[]).printed();
    if from != "sequential" {
        controlled.wait_for_settled(2);
    }
    assert_eq!(controlled.status()["dispatch"], from);
    open.send("back\n");
    open.expect("and back\n");
    for mut client in [open, new] {
        client.check_echo("still here\n");
        client.finish_sending();
        client.expect_eof();
    }
    let deadline = Instant::now() + PATIENCE;
    while from != "threaded" && workers(&controlled) > 0 {
        assert!(Instant::now() < deadline, "the workers are still there");
        thread::yield_now();
    }
    let finished = controlled.server.stop();
    if ![from, to].contains(&"sequential") {
        finished.check_no_alarm();
    }
}

#[test]
fn live_connections_of_blocking_go_on_under_another_dispatch() {
    for from in DISPATCHES {
        for to in DISPATCHES.into_iter().filter(|to| *to != from) {
            check_change(echo_blocking, from, to);
        }
    }
}

#[test]
fn live_connections_of_concurrent_go_on_under_another_dispatch() {
    for from in DISPATCHES {
        for to in DISPATCHES.into_iter().filter(|to| *to != from) {
            check_change(echo_concurrent, from, to);
        }
    }
}

/// There are workers as long as something needs them.
#[test]
fn threads_come_and_go_with_the_dispatch() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    assert_eq!(workers(&controlled), 0);
    change(&controlled, "threaded");
    assert!(workers(&controlled) > 0);
    let mut stays = controlled.server.connect();
    stays.check_echo("on a worker\n");
    let drain = [
        "--dispatch",
        "poll",
        "--old",
        "drain",
        "--drain-timeout",
        "1h",
    ];
    command(&controlled, "swap", &drain).printed();
    // A connection that stays keeps its threads.
    stays.check_echo("still on a worker\n");
    assert!(workers(&controlled) > 0);
    stays.finish_sending();
    stays.expect_eof();
    let deadline = Instant::now() + PATIENCE;
    while workers(&controlled) > 0 {
        assert!(Instant::now() < deadline, "the workers are still there");
        thread::yield_now();
    }
    controlled.server.connect().check_echo("without workers\n");
    controlled.server.stop().check_no_alarm();
}

/// Under `sequential` the next one waits until the one before is done, and not longer than
/// the dispatch is that.
#[test]
fn turns_begin_and_end_with_the_dispatch() {
    let controlled = Controlled::start(echo_blocking, "threaded", &[]);
    let mut before = controlled.server.connect();
    before.check_echo("before\n");
    change(&controlled, "sequential");
    // What was open has no turn. It stays with the version before, beside the first one that
    // has a turn.
    let mut first = controlled.server.connect();
    first.check_echo("first\n");
    before.check_echo("still here\n");
    let mut second = controlled.server.connect();
    second.send("second\n");
    first.finish_sending();
    first.expect_eof();
    second.expect("second\n");
    let mut third = controlled.server.connect();
    third.send("third\n");
    second.check_echo("still alone\n");
    controlled.wait_for_status("those two", |status| status["open"] == 2);
    change(&controlled, "poll");
    third.expect("third\n");
    for client in [&mut before, &mut second, &mut third] {
        client.check_echo("all at once\n");
    }
    drop((before, second, third));
    controlled.server.stop();
}

#[test]
fn a_component_may_come_with_its_dispatch() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let mut open = controlled.server.connect();
    open.check_echo("evented\n");
    controlled.swap("builtin:echo-blocking", &["--dispatch", "threaded"]);
    controlled.wait_for_settled(1);
    open.check_echo("blocking\n");
    let why = controlled.swap_refused("builtin:echo-evented", &[]);
    assert!(
        why.contains("contract evented cannot run under dispatch threaded"),
        "{why}"
    );
    controlled.swap("builtin:echo-evented", &["--dispatch", "poll"]);
    controlled.wait_for_settled(1);
    open.check_echo("evented again\n");
    let why = refusal(&command(&controlled, "swap", &["--dispatch", "sequential"]));
    assert!(why.contains("use --dispatch poll"), "{why}");
    drop(open);
    controlled.server.stop().check_no_alarm();
}

/// A handler that has one instance for all may begin under any dispatch.
#[test]
fn an_instance_for_all_begins_beside_workers() {
    let controlled = Controlled::start(echo_blocking, "threaded", &[]);
    let mut open = controlled.server.connect();
    open.check_echo("blocking\n");
    controlled.swap("builtin:echo-evented", &["--dispatch", "poll"]);
    controlled.wait_for_settled(1);
    open.check_echo("evented\n");
    controlled.server.connect().check_echo("new\n");
    command(&controlled, "rollback", &[]).printed();
    controlled.wait_for_settled(1);
    open.check_echo("blocking again\n");
    drop(open);
    controlled.server.stop().check_no_alarm();
}

#[test]
fn a_dispatch_that_cannot_change_is_refused() {
    let controlled = Controlled::listening(echo_datagram, "poll", &["udp://127.0.0.1:0"], &[]);
    let why = refusal(&command(&controlled, "swap", &["--dispatch", "threaded"]));
    assert!(
        why.contains("the dispatch of datagrams does not change"),
        "{why}"
    );
    let controlled = Controlled::start(echo_blocking, "threaded", &[]);
    let canary = ["--dispatch", "poll", "--canary", "5"];
    let why = refusal(&command(&controlled, "swap", &canary));
    assert!(
        why.contains("it cannot be a canary, because the dispatch"),
        "{why}"
    );
    let wrong = command(&controlled, "swap", &["--dispatch", "eager"]);
    assert_eq!(wrong.status, Some(2), "{wrong:?}");
    // What an instance for all knows fits into no other instance.
    let controlled = Controlled::start(kv_concurrent, "poll", &[]);
    let mut client = controlled.server.connect();
    client.send("SET a 1\n");
    client.line();
    let why = refusal(&command(&controlled, "swap", &["--dispatch", "threaded"]));
    assert!(
        why.contains("each connection would have an instance of its own"),
        "{why}"
    );
    let discard = ["--dispatch", "threaded", "--discard-state"];
    command(&controlled, "swap", &discard).printed();
    assert_eq!(controlled.status()["dispatch"], "threaded");
}

#[test]
fn no_line_is_lost_while_dispatches_change() {
    for guest in [echo_blocking, echo_concurrent] {
        println!("{}", guest.contract());
        let controlled = Controlled::start(guest, "poll", &["--drain-timeout", "1h"]);
        let done = AtomicBool::new(false);
        let address = controlled.server.address();
        let trips: u64 = thread::scope(|scope| {
            let peer = |peer: usize| {
                let done = &done;
                scope.spawn(move || come_and_go(address, peer, done))
            };
            let peers: Vec<_> = (0..10).map(peer).collect();
            for dispatch in [
                "threaded",
                "poll",
                "sequential",
                "threaded",
                "sequential",
                "poll",
            ] {
                change(&controlled, dispatch);
            }
            done.store(true, Ordering::Relaxed);
            peers.into_iter().map(|peer| peer.join().unwrap()).sum()
        });
        let status = controlled.wait_for_status("the ends", |status| status["open"] == 0);
        assert_eq!(status["accepted"], trips);
        assert_eq!(status["handled"], trips);
        controlled.server.stop();
    }
}
