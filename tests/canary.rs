//! A canary: a new version that gets a share of the new connections, and then all of them
//! or none.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;

use crate::harness::control::{Controlled, failed, open, refusal};
use crate::harness::guests::{
    echo_blocking, echo_datagram, echo_evented, faults_blocking, kv_evented,
};
use crate::harness::{Guest, come_and_go};

/// Past the patience of a test, so that no time is over by itself.
const NEVER: &str = "1h";

/// Options of a canary that waits to be told.
fn share(percent: &str) -> [&str; 4] {
    ["--canary", percent, "--canary-for", NEVER]
}

/// A field of each version, oldest first.
fn of_versions(status: &Value, field: &str) -> Vec<Value> {
    let versions = status["versions"].as_array().unwrap().iter();
    versions.map(|version| version[field].clone()).collect()
}

/// Checks that each connection is open or has ended in one way.
#[track_caller]
fn check_sums(status: &Value) {
    let count = |field: &str| status[field].as_u64().unwrap();
    let refused = status["refused"].as_object().unwrap().values();
    let refused: u64 = refused.map(|count| count.as_u64().unwrap()).sum();
    let sum = count("open") + count("handled") + failed(status) + refused;
    assert_eq!(count("accepted"), sum, "{status:#}");
}

/// Whether the next connection is served by the upper-casing canary, and not by the echo.
#[track_caller]
fn is_upper(controlled: &Controlled) -> bool {
    let mut client = controlled.server.connect();
    client.send("abc\n");
    let line = client.line();
    client.finish_sending();
    client.expect_eof();
    assert!(["abc\n", "ABC\n"].contains(&&*line), "{line}");
    line == "ABC\n"
}

fn command(controlled: &Controlled, command: &str) -> Vec<String> {
    let name = controlled.name();
    controlled.command([command, &name]).printed()
}

/// Waits for the end of every connection but `open`, and checks the sums.
#[track_caller]
fn settled(controlled: &Controlled, open: u64) -> Value {
    let status = controlled.wait_for_status("the ends", |status| status["open"] == open);
    check_sums(&status);
    status
}

for_each_pair! { echo: a_canary_gets_exactly_its_share }
fn a_canary_gets_exactly_its_share(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &[]);
    let upper = guest.in_family("upper").builtin();
    let served = |count: usize| {
        (0..count)
            .map(|_| is_upper(&controlled))
            .collect::<Vec<_>>()
    };
    assert_eq!(served(3), [false; 3]);
    assert_eq!(controlled.swap(&upper, &share("5")), 2);
    let seen = served(100);
    let expected: Vec<_> = (0..100).map(|number| number % 20 == 0).collect();
    assert_eq!(seen, expected);
    let status = settled(&controlled, 0);
    assert_eq!(of_versions(&status, "state"), ["current", "canary"]);
    assert_eq!(
        of_versions(&status, "canary-percent"),
        [Value::Null, 5.into()]
    );
    assert_eq!(of_versions(&status, "handled"), [98, 5]);
    let text = controlled.command(["status"]).printed();
    assert!(
        text.iter()
            .any(|line| line.starts_with("+ version 2 ") && line.contains("canary 5 %")),
        "{text:#?}"
    );
    command(&controlled, "promote");
    assert_eq!(served(3), [true; 3]);
    let status = settled(&controlled, 0);
    assert_eq!(of_versions(&status, "number"), [2]);
    assert_eq!(of_versions(&status, "canary-percent"), [Value::Null]);
    assert_eq!(status["accepted"], 106);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo without sequential: a_canary_that_is_promoted_continues_the_others }
fn a_canary_that_is_promoted_continues_the_others(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--drain-timeout", NEVER]);
    let mut before = controlled.server.connect();
    before.check_echo("before\n");
    let said = controlled.command([
        "swap".as_ref(),
        "echo".as_ref(),
        controlled.scratch.build(guest, 1).as_os_str(),
        "--canary".as_ref(),
        "50".as_ref(),
        "--canary-for".as_ref(),
        NEVER.as_ref(),
    ]);
    let said = &said.printed()[0];
    assert!(
        said.starts_with("echo has version 2 as a canary, sha256 ")
            && said.ends_with("; 50 of 100 new connections go to it"),
        "{said}"
    );
    let mut clients: Vec<_> = (0..4).map(|_| controlled.server.connect()).collect();
    for client in &mut clients {
        client.check_echo("meanwhile\n");
    }
    before.check_echo("stays where it is\n");
    assert_eq!(open(&controlled.status()), [3, 2]);
    let promoted = command(&controlled, "promote");
    assert!(promoted[0].contains("echo is at version 2"), "{promoted:?}");
    assert!(promoted[0].contains("are handed over"), "{promoted:?}");
    let status = controlled.wait_for_settled(5);
    assert_eq!(status["hand-overs"]["handed-over"], 3);
    clients.push(before);
    for client in &mut clients {
        client.check_echo("afterwards\n");
    }
    // The version before can be gone back to, as after any swap.
    command(&controlled, "rollback");
    let status = controlled.wait_for_settled(5);
    assert_eq!(of_versions(&status, "number"), [3]);
    for client in &mut clients {
        client.check_echo("and back\n");
    }
    drop(clients);
    settled(&controlled, 0);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo [blocking_threaded, concurrent_poll, evented_poll]: a_canary_is_promoted_when_its_time_is_over_and_enough_have_ended }
/// Its time is over at once, and it waits for the third of its connections to end.
fn a_canary_is_promoted_when_its_time_is_over_and_enough_have_ended(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--rollback-least", "3"]);
    let mut open = controlled.server.connect();
    open.check_echo("before\n");
    let build = controlled.scratch.build(guest, 1);
    let options = ["--canary", "100", "--canary-for", "0s"];
    controlled.swap(&build, &options);
    let waits = controlled
        .server
        .wait_for_log("the end of its time", |event| {
            event.message().starts_with("the canary's time is over")
        });
    assert_eq!(waits.number("missing"), Some(3));
    for ended in 1..=3 {
        let status = controlled.status();
        assert_eq!(of_versions(&status, "state"), ["current", "canary"]);
        let mut client = controlled.server.connect();
        client.check_echo("once\n");
        client.finish_sending();
        client.expect_eof();
        controlled.server.wait_for_closed(ended);
    }
    controlled.server.wait_for_log("the promotion", |event| {
        event.message() == "version activated, it was a canary: its time is over"
    });
    controlled.wait_for_settled(1);
    open.check_echo("after\n");
    drop(open);
    settled(&controlled, 0);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults without sequential: a_canary_that_fails_is_taken_back }
fn a_canary_that_fails_is_taken_back(guest: Guest, dispatch: &str) {
    let options = ["--rollback-least", "3", "--rollback-window", "1ms"];
    let controlled = Controlled::start(guest, dispatch, &options);
    let mut old = controlled.server.connect();
    old.check_echo("before\n");
    let trap = ["--env", "MODE=trap"];
    let build = controlled.scratch.build(guest, 1);
    controlled.swap(&build, &[&share("50")[..], &trap].concat());
    for number in 0..5 {
        let mut client = controlled.server.connect();
        if number % 2 == 0 {
            client.send("fault\n");
            client.expect_eof();
        } else {
            client.check_echo("on the version before\n");
        }
    }
    // The rule has no window for a canary: it is on trial all the time.
    let event = controlled
        .server
        .wait_for_log("the end of the canary", |event| {
            event.message() == "canary taken back"
        });
    assert_eq!(event.number("version"), Some(2));
    assert_eq!(event.str("reason"), "3 of 3 connections failed");
    let status = controlled.wait_for_status("the end of version 2", |status| {
        of_versions(status, "number") == [1]
    });
    assert_eq!(status["failed"]["trap"], 3);
    assert_eq!(
        status["rolled-back"],
        "version 2 was taken back: 3 of 3 connections failed"
    );
    assert_eq!(of_versions(&status, "env")[0].as_array().unwrap().len(), 0);
    old.check_echo("after\n");
    // All new ones are the old version's.
    for _ in 0..3 {
        controlled.server.connect().check_echo("new\n");
    }
    // Another swap has a number of its own.
    assert_eq!(controlled.swap(&build, &[]), 3);
    drop(old);
    settled(&controlled, 0);
}

/// Connections that the canary serves well go on with the version that stays.
#[test]
fn connections_of_a_canary_that_is_taken_back_are_handed_over() {
    let options = ["--rollback-least", "2"];
    let controlled = Controlled::start(faults_blocking, "threaded", &options);
    let trap = ["--env", "MODE=trap"];
    let build = controlled.scratch.build(faults_blocking, 1);
    controlled.swap(&build, &[&share("100")[..], &trap].concat());
    let mut healthy = controlled.server.connect();
    healthy.check_echo("on the canary\n");
    assert_eq!(open(&controlled.status()), [0, 1]);
    for _ in 0..2 {
        let mut client = controlled.server.connect();
        client.send("fault\n");
        client.expect_eof();
    }
    let status = controlled.wait_for_settled(1);
    assert_eq!(of_versions(&status, "number"), [1]);
    assert_eq!(status["hand-overs"]["handed-over"], 1);
    healthy.check_echo("on the version that stays\n");
    settled(&controlled, 1);
}

#[test]
fn a_canary_is_taken_back_by_request_and_stands_alone() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let why = refusal(&controlled.command(["promote", "echo"]));
    assert!(why.contains("echo has no canary"), "{why}");
    let build = controlled.scratch.build(echo_evented, 1);
    controlled.swap(&build, &share("100"));
    let mut client = controlled.server.connect();
    client.check_echo("on the canary\n");
    // No other swap meanwhile.
    for options in [&[][..], &share("5")] {
        let why = controlled.swap_refused("builtin:time-evented", options);
        assert!(
            why.contains("echo has version 2 as a canary; `sockserve promote echo`"),
            "{why}"
        );
    }
    let why = refusal(&controlled.command(["rollback", "echo", "--to", "7"]));
    assert!(why.contains("can go back to version 1 only"), "{why}");
    let said = command(&controlled, "rollback");
    assert!(
        said[0].starts_with("echo is at version 1, sha256 "),
        "{said:?}"
    );
    client.check_echo("on the version that stayed\n");
    let status = controlled.wait_for_settled(1);
    assert_eq!(status["rolled-back"], "version 2 was taken back: asked for");
    assert_eq!(controlled.swap("builtin:upper-evented", &[]), 3);
    assert!(is_upper(&controlled));
    // Its settings come with it, and go with it.
    controlled.swap(
        "builtin:echo-evented",
        &[&share("100")[..], &["--deadline", "2s"]].concat(),
    );
    assert_eq!(controlled.status()["limits"]["deadline-seconds"], 1.0);
    command(&controlled, "promote");
    assert_eq!(controlled.status()["limits"]["deadline-seconds"], 2.0);
    command(&controlled, "rollback");
    assert_eq!(controlled.status()["limits"]["deadline-seconds"], 1.0);
}

#[test]
fn the_old_connections_are_treated_as_it_was_said() {
    for (old, timeout) in [("abort", &[][..]), ("drain", &["--drain-timeout", "100ms"])] {
        println!("{old}");
        let controlled = Controlled::start(echo_blocking, "threaded", &["--drain-timeout", NEVER]);
        let mut client = controlled.server.connect();
        client.check_echo("before\n");
        let options = [&share("50")[..], &["--old", old], timeout].concat();
        controlled.swap(controlled.scratch.build(echo_blocking, 1), &options);
        client.check_echo("meanwhile\n");
        command(&controlled, "promote");
        client.expect_eof();
        let status = settled(&controlled, 0);
        assert_eq!(status["failed"]["aborted"], 1);
    }
}

#[test]
fn what_cannot_be_a_canary_is_refused() {
    let canary = share("5");
    let controlled = Controlled::listening(echo_datagram, "poll", &["udp://127.0.0.1:0"], &[]);
    let why = controlled.swap_refused(controlled.scratch.build(echo_datagram, 1), &canary);
    assert!(
        why.contains("it cannot be a canary, because a datagram"),
        "{why}"
    );
    let controlled = Controlled::start(kv_evented, "poll", &[]);
    let build = controlled.scratch.build(kv_evented, 1);
    let why = controlled.swap_refused(&build, &canary);
    assert!(why.contains("cannot be in two instances"), "{why}");
    let why = controlled.swap_refused(kv_evented.path(), &canary);
    assert!(why.contains("it is what serves already"), "{why}");
    controlled.swap(&build, &[&canary[..], &["--discard-state"]].concat());
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let build = controlled.scratch.build(echo_evented, 1);
    let service = [&canary[..], &["--idle-timeout", "1s"]].concat();
    let why = controlled.swap_refused(&build, &service);
    assert!(why.contains("limits of the service hold for all"), "{why}");
    let build = build.to_str().unwrap();
    for (options, expected) in [
        (
            &["--canary", "0"][..],
            "it must be a whole number from 1 to 100",
        ),
        (
            &["--canary", "101"],
            "it must be a whole number from 1 to 100",
        ),
        (
            &["--canary", "abc"],
            "it must be a whole number from 1 to 100",
        ),
        (&["--canary", "5", "--canary-for", "soon"], "it is no time"),
        (&["--canary-for", "1s"], "--canary <PERCENT>"),
    ] {
        let outcome = controlled.command([&["swap", "echo", build], options].concat());
        assert_eq!(outcome.status, Some(2), "{outcome:?}");
        assert_eq!(outcome.stderr.len(), 1, "{outcome:?}");
        assert!(outcome.stderr[0].contains(expected), "{outcome:?}");
    }
    assert_eq!(controlled.status()["versions"][0]["number"], 1);
}

/// The end of the service is the end of the canary, whose connections may finish like all.
#[test]
fn a_drain_ends_a_canary() {
    let controlled = Controlled::start(echo_evented, "poll", &["--drain-timeout", NEVER]);
    controlled.swap(controlled.scratch.build(echo_evented, 1), &share("50"));
    let mut clients: Vec<_> = (0..2).map(|_| controlled.server.connect()).collect();
    for client in &mut clients {
        client.check_echo("before\n");
    }
    controlled.command(["drain", "echo"]).printed();
    let status = controlled.wait_for_status("the end of the canary", |status| {
        of_versions(status, "state") == ["current", "draining"]
    });
    check_sums(&status);
    let why = refusal(&controlled.command(["promote", "echo"]));
    assert!(why.contains("echo is draining"), "{why}");
    for client in &mut clients {
        client.check_echo("still served\n");
        client.finish_sending();
        client.expect_eof();
    }
    let finished = controlled.server.finish();
    assert_eq!(finished.status.code(), Some(0));
}

for_each_pair! {
    echo without sequential:
    no_line_is_lost_while_canaries_come_and_go
}
fn no_line_is_lost_while_canaries_come_and_go(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--drain-timeout", NEVER]);
    let builds = [1, 2].map(|number| controlled.scratch.build(guest, number));
    let done = AtomicBool::new(false);
    let address = controlled.server.address();
    let trips: u64 = thread::scope(|scope| {
        let peer = |peer: usize| {
            let done = &done;
            scope.spawn(move || come_and_go(address, peer, done))
        };
        let peers: Vec<_> = (0..10).map(peer).collect();
        for number in 0..6 {
            controlled.swap(&builds[number % 2], &share("30"));
            command(
                &controlled,
                if number % 3 == 0 {
                    "rollback"
                } else {
                    "promote"
                },
            );
            if number % 3 == 0 {
                controlled.swap(&builds[number % 2], &[]);
            }
        }
        done.store(true, Ordering::Relaxed);
        peers.into_iter().map(|peer| peer.join().unwrap()).sum()
    });
    let status = settled(&controlled, 0);
    assert_eq!(status["accepted"], trips);
    assert_eq!(status["handled"], trips);
}
