//! New versions that do not take a connection on: it goes on with the old one,
//! which is asked again at the next swap.

use super::{NEVER, STAYS, start, wait_for_refusal};
use crate::harness::control::{Controlled, failed, open};
use crate::harness::{Client, Guest};

const DEADLINE: &str = "200ms";
const TRAP: &str = "the guest trapped: wasm trap: wasm `unreachable` instruction executed";
const REFUSAL: &str = "deliberate refusal";
const TOO_LONG: &str = "the guest trapped: no wait within the deadline of 200ms";

/// Two peers, where there can be so many.
fn connect(controlled: &Controlled, dispatch: &str) -> Vec<Client> {
    let count = if dispatch == "sequential" { 1 } else { 2 };
    (0..count).map(|_| controlled.server.connect()).collect()
}

/// `echo` is swapped for a version that does not take its connections, for this
/// reason, and that for one that does.
#[track_caller]
fn check(echo: Guest, dispatch: &str, manner: &str, reason: &str) {
    let upper = echo.in_family("upper");
    let options = ["--env", manner, "--deadline", DEADLINE];
    let controlled = start(echo, dispatch, &options);
    let mut old = connect(&controlled, dispatch);
    for client in &mut old {
        client.check_echo("before\n");
    }
    controlled.swap_at_once(echo.in_family("faults").path());
    let refused = old.len();
    let status = controlled.wait_for_status("the refusals", |status| {
        status["hand-overs"]["refused"] == refused
    });
    assert_eq!(status["hand-overs"]["handed-over"], 0);
    for client in &mut old {
        client.check_echo("after\n");
    }
    assert_eq!(open(&status), [refused as u64, 0]);
    // Somebody new is the new version's.
    let mut new = None;
    if dispatch != "sequential" {
        let mut client = controlled.server.connect();
        client.check_echo("new\n");
        assert_eq!(open(&controlled.status()), [refused as u64, 1]);
        new = Some(client);
    }
    // Both versions are asked to give theirs up to one that takes them.
    controlled.swap_at_once(upper.builtin());
    let all = old.len() + usize::from(new.is_some());
    let status = controlled.wait_for_settled(all);
    assert_eq!(status["hand-overs"]["handed-over"], all);
    assert_eq!(failed(&status), 0, "{status:#}");
    for mut client in old.into_iter().chain(new) {
        client.send("at last\n");
        client.expect("AT LAST\n");
        client.finish_sending();
        client.expect_eof();
    }
    let finished = controlled.server.stop();
    let (refusals, others): (Vec<_>, Vec<_>) = finished
        .alarms()
        .into_iter()
        .partition(|event| event.message().starts_with(STAYS));
    assert_eq!(refusals.len(), refused);
    for event in refusals {
        assert_eq!(event.message(), format!("{STAYS}{reason}"));
        assert_eq!(event.number("version"), Some(1));
        assert_eq!(event.number("to"), Some(2));
    }
    let died = reason != REFUSAL && echo.shares_instance(dispatch);
    assert_eq!(others.len(), usize::from(died), "{others:#?}");
    for event in others {
        let message = event.message();
        assert!(
            message.starts_with("instance died") && message.ends_with(reason),
            "{event:?}"
        );
    }
}

for_each_pair! { echo: one_that_refuses }
fn one_that_refuses(guest: Guest, dispatch: &str) {
    check(guest, dispatch, "HAND_OVER=refuse", REFUSAL);
}

for_each_pair! { echo: one_that_traps_when_it_is_asked }
fn one_that_traps_when_it_is_asked(guest: Guest, dispatch: &str) {
    check(guest, dispatch, "HAND_OVER=trap-accept", TRAP);
}

for_each_pair! { echo: one_that_computes_for_ever_when_it_is_asked }
fn one_that_computes_for_ever_when_it_is_asked(guest: Guest, dispatch: &str) {
    check(guest, dispatch, "HAND_OVER=spin-accept", TOO_LONG);
}

for_each_pair! { echo: one_that_waits_when_it_is_asked }
fn one_that_waits_when_it_is_asked(guest: Guest, dispatch: &str) {
    check(guest, dispatch, "HAND_OVER=wait-accept", TOO_LONG);
}

for_each_pair! { echo: one_that_speaks_something_else }
/// What a connection is refused for may be the connection itself: a handler
/// that speaks another protocol knows nothing of its state.
fn one_that_speaks_something_else(echo: Guest, dispatch: &str) {
    let upper = echo.in_family("upper");
    let controlled = start(echo, dispatch, &[]);
    let mut client = controlled.server.connect();
    client.check_echo("before\n");
    controlled.swap_at_once(echo.in_family("time").builtin());
    wait_for_refusal(&controlled.server, &client, "state echo/1: expected time/1");
    client.check_echo("after\n");
    controlled.swap_at_once(upper.builtin());
    controlled.wait_for_settled(1);
    client.send("at last\n");
    client.expect("AT LAST\n");
}

for_each_pair! { echo: one_that_traps_for_whoever_is_new_is_taken_back }
/// It takes live connections on as long as nobody new comes, whom it fails. Where
/// an instance serves all, that is the end of the others too; otherwise they go
/// on, and are handed back.
fn one_that_traps_for_whoever_is_new_is_taken_back(echo: Guest, dispatch: &str) {
    let upper = echo.in_family("upper");
    let options = [
        "--env",
        "MODE=trap-open",
        "--rollback-least",
        "3",
        "--rollback-percent",
        "50",
        "--rollback-window",
        NEVER,
    ];
    // `echo` would not know the mode.
    let controlled = start(upper, dispatch, &options);
    let mut client = controlled.server.connect();
    client.send("before\n");
    client.expect("BEFORE\n");
    controlled.swap_at_once(echo.in_family("faults").path());
    controlled.wait_for_settled(1);
    client.check_echo("here\n");
    if dispatch == "sequential" {
        // Nobody comes in beside it.
        return;
    }
    // Where it takes the live one with it, that is one of the three.
    for _ in usize::from(echo.shares_instance(dispatch))..3 {
        controlled.server.connect().expect_eof();
    }
    let event = controlled.server.wait_for_version(3);
    assert_eq!(
        event.str("reason"),
        "version 2 was rolled back: 3 of 3 connections failed"
    );
    if echo.shares_instance(dispatch) {
        client.expect_eof();
        return;
    }
    controlled.wait_for_settled(1);
    client.send("back\n");
    client.expect("BACK\n");
    let mut new = controlled.server.connect();
    new.send("new\n");
    new.expect("NEW\n");
}

for_each_pair! { echo: one_that_fails_its_probe_is_asked_for_nothing }
fn one_that_fails_its_probe_is_asked_for_nothing(echo: Guest, dispatch: &str) {
    let upper = echo.in_family("upper");
    let options = ["--env", "MODE=trap-open"];
    let controlled = start(upper, dispatch, &options);
    let mut client = controlled.server.connect();
    client.send("before\n");
    client.expect("BEFORE\n");
    let probe = ["--probe", r"send=x\n,expect=x"];
    let why = controlled.swap_refused(echo.in_family("faults").path(), &probe);
    assert!(why.contains("the probe failed"), "{why}");
    client.send("after\n");
    client.expect("AFTER\n");
    let status = controlled.wait_for_settled(1);
    assert_eq!(status["versions"][0]["number"], 1);
    assert_eq!(status["hand-overs"]["handed-over"], 0);
}
