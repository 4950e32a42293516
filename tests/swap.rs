//! A service's handler is swapped while it runs, and connections stay with the
//! version that they came to. How they go on with another is in `hand_over`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::chat::WELCOME;
use crate::harness::control::{Controlled, refusal};
use crate::harness::guests::{
    chat_concurrent, chat_evented, echo_blocking, echo_concurrent, echo_evented, faults_blocking,
    faults_concurrent, faults_evented, faults_import, faults_none, time_blocking,
};
use crate::harness::{Client, Guest, come_and_go, ctime};

/// Past the patience of a test, so that no timeout helps.
const NEVER: &str = "1h";
const DRAIN: [&str; 2] = ["--old", "drain"];

for_each_pair! { echo: a_live_connection_goes_on_and_the_next_is_the_new_versions }
fn a_live_connection_goes_on_and_the_next_is_the_new_versions(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--drain-timeout", NEVER]);
    let mut old = controlled.server.connect();
    old.check_echo("before\n");
    let time = guest.in_family("time").builtin();
    assert_eq!(controlled.swap(&time, &DRAIN), 2);
    old.check_echo("after\n");
    if dispatch != "sequential" {
        ctime::check(&controlled.server.connect().read_to_end(), 0);
    }
    old.finish_sending();
    old.expect_eof();
    ctime::check(&controlled.server.connect().read_to_end(), 0);
    controlled.server.stop().check_no_alarm();
}

#[test]
fn a_swap_may_change_the_contract_where_the_dispatch_can_run_both() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let mut clients = vec![controlled.server.connect()];
    // One after the other in the same server, with a connection on each.
    for guest in [
        chat_concurrent,
        echo_blocking,
        chat_evented,
        echo_concurrent,
    ] {
        controlled.swap(guest.builtin(), &DRAIN);
        let mut client = controlled.server.connect();
        if guest.family() == "chat" {
            client.expect(WELCOME);
        } else {
            clients.push(client);
        }
    }
    for client in &mut clients {
        client.check_echo("each on its own version\n");
    }
    let status = controlled.status();
    assert_eq!(status["contract"], "concurrent");
    assert_eq!(status["accepted"], 5);

    let controlled = Controlled::start(echo_blocking, "threaded", &[]);
    let why = controlled.swap_refused("builtin:echo-evented", &[]);
    assert!(
        why.contains("contract evented cannot run under dispatch threaded"),
        "{why}"
    );
    controlled.server.connect().check_echo("still\n");
}

for_each_pair! {
    echo without sequential:
    no_line_is_lost_and_no_connect_refused_while_versions_change
}
/// Peers that come, talk and go without pause while versions change.
fn no_line_is_lost_and_no_connect_refused_while_versions_change(guest: Guest, dispatch: &str) {
    const SWAPS: u8 = 20;
    let controlled = Controlled::start(guest, dispatch, &["--drain-timeout", NEVER]);
    let builds = [1, 2].map(|number| controlled.scratch.build(guest, number));
    let done = AtomicBool::new(false);
    let address = controlled.server.address();
    thread::scope(|scope| {
        for peer in 0..20 {
            let done = &done;
            scope.spawn(move || come_and_go(address, peer, done));
        }
        for swap in 0..SWAPS {
            let version = controlled.swap(&builds[usize::from(swap % 2)], &DRAIN);
            assert_eq!(version, u64::from(swap) + 2);
        }
        done.store(true, Ordering::Relaxed);
    });
    let finished = controlled.server.stop();
    finished.check_no_alarm();
}

for_each_pair! { echo by default: what_is_not_fit_leaves_the_old_version_serving }
fn what_is_not_fit_leaves_the_old_version_serving(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &[]);
    let mut old = controlled.server.connect();
    let check = |component: &str, expected: &str| {
        let why = controlled.swap_refused(component, &[]);
        assert!(why.contains(expected), "{why}");
    };
    check("builtin:nothing", "there is no builtin:nothing; there are");
    check(
        controlled.scratch.path("gone.wasm").to_str().unwrap(),
        "No such file",
    );
    check(file!(), "No such file");
    check(faults_none.path().to_str().unwrap(), "exports none of");
    check(
        faults_import.path().to_str().unwrap(),
        "imports acme:vault/secrets",
    );
    let text = controlled.scratch.path("text.wasm");
    std::fs::write(&text, "no component").unwrap();
    check(text.to_str().unwrap(), "not a WebAssembly component");
    old.check_echo("still\n");
    controlled.server.connect().check_echo("still\n");
    let status = controlled.status();
    assert_eq!(status["versions"].as_array().unwrap().len(), 1);
    assert_eq!(status["versions"][0]["number"], 1);
}

#[test]
fn the_same_component_is_not_swapped() {
    let controlled = Controlled::start(echo_blocking, "poll", &[]);
    // The embedded one is the same file.
    let outcome = controlled.command(["swap", "echo", "builtin:echo-blocking"]);
    assert_eq!(outcome.status, Some(0));
    assert_eq!(
        outcome.stdout,
        ["echo stays at version 1, which is this component"]
    );
}

for_each_pair! { echo: a_probe_decides_before_any_user_does }
fn a_probe_decides_before_any_user_does(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &[]);
    let build = controlled.scratch.build(guest, 1);
    let why = controlled.swap_refused(&build, &["--probe", r"send=a\,b\n,expect=no"]);
    assert!(
        why.contains(r#"the probe failed: expected "no", and "#)
            && why.ends_with(r#"answered "a\,b\n""#),
        "{why}"
    );
    assert_eq!(controlled.status()["versions"][0]["number"], 1);
    controlled.swap(&build, &["--probe", r"send=a\,b\n,expect=a\,b\x0a"]);
    controlled.server.connect().check_echo("hello\n");
    // The probe is nobody's connection.
    assert_eq!(controlled.status()["accepted"], 1);
}

for_each_pair! { faults by default: a_probe_finds_a_version_that_traps }
fn a_probe_finds_a_version_that_traps(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--env", "MODE=trap"]);
    let build = controlled.scratch.build(guest, 1);
    let why = controlled.swap_refused(&build, &["--probe", r"send=fault\n,expect=x"]);
    assert!(why.contains("the probe failed"), "{why}");
    assert_eq!(controlled.status()["versions"][0]["number"], 1);
    controlled.server.connect().check_echo("hello\n");
}

for_each_pair! {
    echo without sequential:
    old_connections_are_closed_at_the_drain_timeout_or_at_once
}
fn old_connections_are_closed_at_the_drain_timeout_or_at_once(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--drain-timeout", NEVER]);
    let mut client = controlled.server.connect();
    client.check_echo("first\n");
    controlled.swap(
        controlled.scratch.build(guest, 1),
        &["--old", "drain", "--drain-timeout", "100ms"],
    );
    client.expect_eof();
    let mut client = controlled.server.connect();
    client.check_echo("second\n");
    controlled.swap(controlled.scratch.build(guest, 2), &["--old", "abort"]);
    client.expect_eof();
    controlled.server.connect().check_echo("third\n");
    let status = controlled.status();
    assert_eq!(status["failed"]["aborted"], 2);
}

#[test]
fn a_rollback_brings_back_the_version_before() {
    let controlled = Controlled::start(echo_blocking, "threaded", &[]);
    let rollback = || controlled.command(["rollback", "echo"]);
    let why = refusal(&rollback());
    assert!(why.contains("echo has no version before this one"), "{why}");
    let file = controlled.scratch.path("time.wasm");
    std::fs::copy(time_blocking.path(), &file).unwrap();
    controlled.swap(&file, &[]);
    ctime::check(&controlled.server.connect().read_to_end(), 0);
    let outcome = rollback();
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(outcome.stdout[0].starts_with("echo is at version 3, sha256 "));
    controlled.server.connect().check_echo("echo again\n");
    assert_eq!(
        controlled.status()["rolled-back"],
        "version 2 was rolled back: asked for"
    );
    // And forth, though the file is gone: the component is still in memory.
    std::fs::remove_file(&file).unwrap();
    assert_eq!(rollback().status, Some(0));
    ctime::check(&controlled.server.connect().read_to_end(), 0);
}

for_each_pair! { faults without sequential: a_version_that_fails_too_often_is_taken_back }
fn a_version_that_fails_too_often_is_taken_back(guest: Guest, dispatch: &str) {
    let options = [
        "--env",
        "MODE=trap",
        "--rollback-least",
        "3",
        "--rollback-window",
        NEVER,
    ];
    let controlled = Controlled::start(guest, dispatch, &options);
    controlled.swap(controlled.scratch.build(guest, 1), &[]);
    for _ in 0..3 {
        let mut client = controlled.server.connect();
        client.send("fault\n");
        client.expect_eof();
    }
    let event = controlled.server.wait_for_version(3);
    assert_eq!(
        event.str("reason"),
        "version 2 was rolled back: 3 of 3 connections failed"
    );
    let status = controlled.status();
    assert_eq!(status["rolled-back"], event.str("reason"));
    assert_eq!(status["failed"]["trap"], 3);
    // What was gone back to is on no trial: it is all there is.
    for _ in 0..4 {
        let mut client = controlled.server.connect();
        client.send("fault\n");
        client.expect_eof();
    }
    assert_eq!(controlled.status()["versions"][0]["number"], 3);
}

/// A handler that returns an error for what a peer sends is no broken one, unless the
/// operator says so.
// From: review of 2026-11-25, 3.9.
#[test]
fn errors_that_a_handler_returns_condemn_it_on_request_only() {
    for on in ["fault", "err"] {
        println!("{on}");
        let options = [
            "--env",
            "MODE=err",
            "--rollback-least",
            "3",
            "--rollback-window",
            NEVER,
            "--rollback-on",
            on,
        ];
        let controlled = Controlled::start(faults_concurrent, "poll", &options);
        controlled.swap(controlled.scratch.build(faults_concurrent, 1), &[]);
        for _ in 0..3 {
            let mut client = controlled.server.connect();
            client.send("fault\n");
            client.expect_eof();
        }
        if on == "err" {
            controlled.server.wait_for_version(3);
        } else {
            // The rule has looked when the fourth is counted.
            controlled.server.wait_for_closed(3);
            controlled.server.connect().check_echo("fine\n");
            assert_eq!(controlled.status()["versions"][0]["number"], 2);
        }
    }
}

/// What was taken back by itself is not gone back to by accident; if it is named it is
/// on trial again.
// From: review of 2026-11-25, 3.9.
#[test]
fn a_condemned_version_has_to_be_named() {
    let options = [
        "--env",
        "MODE=trap",
        "--rollback-least",
        "2",
        "--rollback-window",
        NEVER,
    ];
    let controlled = Controlled::start(faults_concurrent, "poll", &options);
    controlled.swap(controlled.scratch.build(faults_concurrent, 1), &[]);
    let fail_two = || {
        for _ in 0..2 {
            let mut client = controlled.server.connect();
            client.send("fault\n");
            client.expect_eof();
        }
    };
    fail_two();
    controlled.server.wait_for_version(3);
    let previous = &controlled.status()["previous"];
    assert_eq!(previous["number"], 2);
    assert_eq!(previous["condemned"], "2 of 2 connections failed");
    let rollback = |to: &[&str]| {
        let name = controlled.name();
        let mut args = vec!["rollback", &name];
        args.extend(to);
        controlled.command(args)
    };
    let why = refusal(&rollback(&[]));
    assert!(why.contains("name it with --to 2"), "{why}");
    let why = refusal(&rollback(&["--to", "1"]));
    assert!(why.contains("can go back to version 2 only"), "{why}");
    assert_eq!(rollback(&["--to", "2"]).status, Some(0));
    fail_two();
    controlled.server.wait_for_version(5);
}

/// The answer to a swap says which connections it cost.
// From: case 65.
#[test]
fn a_swap_says_what_it_has_lost() {
    let options = ["--env", "HAND_OVER=trap-hand-over"];
    let controlled = Controlled::start(faults_evented, "poll", &options);
    let mut clients: Vec<Client> = (0..3).map(|_| controlled.server.connect()).collect();
    for client in &mut clients {
        client.check_echo("before\n");
    }
    let name = controlled.name();
    let outcome = controlled.command(["swap", &name, "builtin:echo-evented"]);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    let said = &outcome.stdout[0];
    assert!(
        said.ends_with("; 3 of them failed meanwhile and were closed"),
        "{said}"
    );
    for client in &mut clients {
        client.expect_eof();
    }
}

#[test]
fn one_swap_at_a_time_and_none_while_draining() {
    let options = ["--env", "MODE=never-read", "--drain-timeout", NEVER];
    let controlled = Controlled::start(faults_blocking, "threaded", &options);
    let held = controlled.server.connect();
    controlled.server.wait_for_open(&held);
    let builds = [1, 2].map(|number| controlled.scratch.build(faults_blocking, number));
    thread::scope(|scope| {
        // Its probe waits for an answer that never comes.
        let first = scope.spawn(|| controlled.swap_refused(&builds[0], &["--probe", "expect=x"]));
        controlled
            .server
            .wait_for_log("the probe's connection", |event| {
                event.message() == "connection opened"
                    && event.str("peer") != held.local().to_string()
            });
        let why = controlled.swap_refused(&builds[1], &[]);
        assert!(why.contains("a swap of faults is under way"), "{why}");
        let why = first.join().unwrap();
        assert!(why.contains("no answer within 5s"), "{why}");
    });
    let outcome = controlled.command(["drain", "faults"]);
    assert_eq!(outcome.stdout, ["faults is draining"]);
    let why = controlled.swap_refused(&builds[1], &[]);
    assert!(
        why.contains("faults is draining and takes no new version"),
        "{why}"
    );
    assert_eq!(controlled.status()["state"], "draining");
    // The guest would never end it: the second signal does.
    controlled.server.terminate();
    controlled
        .server
        .wait_for_log("the drain", |event| event.message() == "draining");
    controlled.server.terminate();
    controlled.server.finish();
    drop(held);
}

/// What is asked for holds for every connection that is not on the new version, also
/// for those that an earlier swap has left where they were.
// From: b62acc8.
#[test]
fn abort_and_drain_reach_connections_of_earlier_versions() {
    for options in [
        &["--old", "abort"][..],
        &["--old", "drain", "--drain-timeout", "100ms"],
    ] {
        println!("{options:?}");
        let controlled = Controlled::start(echo_evented, "poll", &["--drain-timeout", NEVER]);
        let mut client = controlled.server.connect();
        client.check_echo("first\n");
        controlled.swap("builtin:time-evented", &[]);
        // The time service does not know echo's state.
        client.check_echo("still here\n");
        controlled.swap("builtin:upper-evented", options);
        client.expect_eof();
        drop(client);
        controlled.wait_for_status("the end of the earlier versions", |status| {
            status["versions"].as_array().unwrap().len() == 1
        });
    }
}
