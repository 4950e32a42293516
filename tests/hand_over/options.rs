//! What an operator chooses: `--old`, and how long connections that stay
//! may stay.

use super::{start, wait_for_refusal};
use crate::harness::Guest;
use crate::harness::control::{Controlled, failed, open};
use crate::harness::guests::{echo_blocking, faults_blocking};
use crate::harness::log::Event;
use crate::harness::scratch::Scratch;

for_each_pair! { chat, echo, time, upper: hand_over_is_the_default }
/// It is what is done where both versions can, for every embedded guest.
fn hand_over_is_the_default(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[]);
    let build = controlled.scratch.build(guest, 1);
    let name = controlled.name();
    let outcome = controlled.command(["swap".as_ref(), name.as_ref(), build.as_os_str()]);
    let printed = outcome.printed();
    assert!(
        printed[0].starts_with(&format!("{name} is at version 2, sha256 ")),
        "{printed:?}"
    );
    assert!(
        printed[0].ends_with("; open connections are handed over"),
        "{printed:?}"
    );
}

for_each_pair! { echo: a_version_that_cannot_hand_over_drains }
/// A component that cannot do without the interface is swapped as before, unless
/// hand-over was asked for.
fn a_version_that_cannot_hand_over_drains(echo: Guest, dispatch: &str) {
    let upper = echo.in_family("upper");
    let scratch = Scratch::new();
    let without = scratch.without_hand_over(echo);

    // The new one cannot.
    let controlled = start(upper, dispatch, &[]);
    let mut client = controlled.server.connect();
    client.send("before\n");
    client.expect("BEFORE\n");
    let why = controlled.swap_refused(&without, &["--old", "hand-over"]);
    assert_eq!(
        why,
        format!(
            "sockserve: {}: its component cannot take connections over; use --old drain or \
             --old abort",
            without.display()
        )
    );
    assert_eq!(open(&controlled.status()), [1]);
    let swapped = controlled.try_swap(&without).unwrap();
    assert_eq!(swapped["old"], "drain");
    assert_eq!(open(&controlled.status()), [1, 0]);
    client.send("after\n");
    client.expect("AFTER\n");
    client.finish_sending();
    client.expect_eof();
    controlled.wait_for_settled(0);

    // Nor can it as the old one.
    let mut client = controlled.server.connect();
    client.check_echo("before\n");
    let upper = upper.builtin();
    let why = controlled.swap_refused(&upper, &["--old", "hand-over"]);
    assert_eq!(
        why,
        format!(
            "sockserve: {}: its component cannot give its connections up; use --old drain or \
             --old abort",
            without.display()
        )
    );
    client.check_echo("still\n");
    let swapped = controlled.try_swap(&upper).unwrap();
    assert_eq!(swapped["old"], "drain");
    client.check_echo("after\n");
    assert_eq!(open(&controlled.status()), [1, 0]);
    assert_eq!(controlled.status()["hand-overs"]["refused"], 0);
    client.finish_sending();
    client.expect_eof();
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo: drain_leaves_connections_where_they_are }
fn drain_leaves_connections_where_they_are(echo: Guest, dispatch: &str) {
    let upper = echo.in_family("upper");
    let controlled = start(echo, dispatch, &[]);
    let mut client = controlled.server.connect();
    client.check_echo("before\n");
    controlled.swap(upper.builtin(), &["--old", "drain"]);
    client.check_echo("after\n");
    // Nor does a later swap touch what was left to drain.
    controlled.swap_at_once(echo.builtin());
    client.check_echo("still\n");
    assert_eq!(open(&controlled.status()), [1, 0]);
    client.finish_sending();
    client.expect_eof();
    let status = controlled.wait_for_settled(0);
    assert_eq!(status["hand-overs"]["handed-over"], 0);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo: drain_ends_at_its_timeout }
fn drain_ends_at_its_timeout(echo: Guest, dispatch: &str) {
    let upper = echo.in_family("upper");
    let controlled = start(echo, dispatch, &[]);
    let mut client = controlled.server.connect();
    client.check_echo("before\n");
    let drain = ["--old", "drain", "--drain-timeout", "100ms"];
    controlled.swap(upper.builtin(), &drain);
    client.expect_eof();
    drop(client);
    let status = controlled.wait_for_settled(0);
    assert_eq!(status["failed"]["aborted"], 1);
    let is_timeout =
        |event: &Event| event.message() == "drain timeout of the version, closing what is open";
    let event = controlled.server.wait_for_log("the timeout", is_timeout);
    assert_eq!(event.number("version"), Some(1));
    let finished = controlled.server.stop();
    let said = finished.log.iter().filter(|event| is_timeout(event));
    assert_eq!(said.count(), 1);
}

for_each_pair! { echo: abort_closes_at_once }
fn abort_closes_at_once(echo: Guest, dispatch: &str) {
    let upper = echo.in_family("upper");
    let controlled = start(echo, dispatch, &[]);
    let mut client = controlled.server.connect();
    client.check_echo("before\n");
    controlled.swap(upper.builtin(), &["--old", "abort"]);
    client.expect_eof();
    drop(client);
    let status = controlled.wait_for_settled(0);
    assert_eq!(status["failed"]["aborted"], 1);
    assert_eq!(status["hand-overs"]["handed-over"], 0);
}

for_each_pair! { echo: what_stays_may_be_given_a_time }
/// With a timeout the connections that stayed where they were are closed in the end.
fn what_stays_may_be_given_a_time(echo: Guest, dispatch: &str) {
    let upper = echo.in_family("upper");
    let options = ["--env", "HAND_OVER=refuse"];
    let controlled = start(echo, dispatch, &options);
    let mut client = controlled.server.connect();
    client.check_echo("before\n");
    let hand_over = ["--old", "hand-over", "--drain-timeout", "100ms"];
    controlled.swap(echo.in_family("faults").path(), &hand_over);
    client.expect_eof();
    drop(client);
    let status = controlled.wait_for_settled(0);
    assert_eq!(status["failed"]["aborted"], 1);

    let mut client = controlled.server.connect();
    client.check_echo("before\n");
    controlled.swap(upper.builtin(), &hand_over);
    let status = controlled.wait_for_settled(1);
    assert_eq!(status["hand-overs"]["handed-over"], 1);
    assert_eq!(failed(&status), 1);
    client.send("after\n");
    client.expect("AFTER\n");
}

/// A connection that is refused has no limit by default, though the service has
/// one for draining.
#[test]
fn what_stays_stays_as_long_as_it_likes() {
    let options = ["--env", "HAND_OVER=refuse", "--drain-timeout", "100ms"];
    let controlled = Controlled::start(echo_blocking, "threaded", &options);
    let mut stays = controlled.server.connect();
    stays.check_echo("before\n");
    controlled.swap_at_once(faults_blocking.path());
    wait_for_refusal(&controlled.server, &stays, "deliberate refusal");
    // A connection that came after it is closed at the timeout, so the time is over.
    let mut drained = controlled.server.connect();
    drained.check_echo("new\n");
    controlled.swap(
        controlled.scratch.build(faults_blocking, 1),
        &["--old", "drain"],
    );
    drained.expect_eof();
    stays.check_echo("after\n");
}
