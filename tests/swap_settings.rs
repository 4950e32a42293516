//! A swap that changes settings: the environment and the limits of a service, with another
//! component or with the same one.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::harness::command::Outcome;
use crate::harness::control::{Controlled, http, refusal, request};
use crate::harness::guests::{echo_blocking, echo_evented, faults_blocking, faults_concurrent};
use crate::harness::{Client, Guest, PATIENCE};

/// Past the patience of a test, so that no timeout helps.
const NEVER: &str = "1h";

impl Controlled {
    /// Runs a command for the service.
    #[track_caller]
    fn service_command(&self, command: &str, options: &[&str]) -> Outcome {
        let name = self.name();
        self.command([&[command, &name], options].concat())
    }

    /// Changes settings of the service, which works, and says the version's number.
    #[track_caller]
    fn change(&self, options: &[&str]) -> u64 {
        let options = [options, &["--json"]].concat();
        let printed = self.service_command("swap", &options).printed();
        let swapped: Value = serde_json::from_str(&printed[0]).unwrap();
        assert_eq!(swapped["changed"], true);
        swapped["version"].as_u64().unwrap()
    }
}

/// What the current version has of a field.
fn of_current(status: &Value, field: &str) -> Value {
    let versions = status["versions"].as_array().unwrap();
    let current = versions.iter().find(|it| it["state"] == "current");
    current.unwrap()[field].clone()
}

for_each_pair! { echo without sequential: the_environment_changes_and_a_rollback_brings_it_back }
fn the_environment_changes_and_a_rollback_brings_it_back(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--env", "OTHER=secret"]);
    let mut open = controlled.server.connect();
    open.check_echo("before\n");
    assert_eq!(controlled.change(&["--env", "MODE=upper"]), 2);
    // The open connection is handed over, and is served as the new settings say.
    open.send("after\n");
    open.expect("AFTER");
    open.expect_eof();
    let upper = |controlled: &Controlled| {
        let mut client = controlled.server.connect();
        client.send("new\n");
        client.expect("NEW");
        client.expect_eof();
    };
    upper(&controlled);
    let status = controlled.status();
    assert_eq!(of_current(&status, "env"), json!(["MODE", "OTHER"]));
    assert_eq!(status["hand-overs"]["handed-over"], 1);
    // Their values may be secrets.
    assert!(!status.to_string().contains("secret"), "{status:#}");
    controlled.service_command("rollback", &[]).printed();
    controlled.server.connect().check_echo("as before\n");
    assert_eq!(of_current(&controlled.status(), "env"), json!(["OTHER"]));
    // And forth, and by another swap.
    controlled.service_command("rollback", &[]).printed();
    upper(&controlled);
    controlled.change(&["--unset-env", "MODE", "--env", "OTHER=1"]);
    controlled.server.connect().check_echo("as before\n");
    controlled.server.stop().check_no_alarm();
}

#[test]
fn a_component_may_come_with_its_settings_and_a_later_swap_keeps_them() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let build = controlled.scratch.build(echo_evented, 1);
    controlled.swap(&build, &["--env", "MODE=upper"]);
    controlled.swap("builtin:echo-evented", &[]);
    let mut client = controlled.server.connect();
    client.send("abc\n");
    client.expect("ABC");
    // What the service has already is no change.
    let same = controlled.service_command("swap", &["--env", "MODE=upper"]);
    assert_eq!(
        same.printed(),
        ["echo stays at version 3, which is this component"]
    );
}

/// By the component itself, which is sent and not in any file here.
#[test]
fn a_component_that_is_sent_may_have_settings() {
    let controlled = Controlled::start(echo_evented, "poll", &[]);
    let link = controlled.scratch.path("link.wasm");
    let bytes = fs::read(controlled.scratch.build(echo_evented, 1)).unwrap();
    let head = format!(
        "POST /v1/services/echo/swap?component=sent&env=MODE=upper&limits=deadline=2s HTTP/1.1\r\n\
         Host: x\r\nContent-Type: application/wasm\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    let mut stream = UnixStream::connect(controlled.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
        .write_all(&[head.as_bytes(), &bytes].concat())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut client = controlled.server.connect();
    client.send("abc\n");
    client.expect("ABC");
    assert_eq!(controlled.status()["limits"]["deadline-seconds"], 2.0);
    // Its bytes are not kept.
    let why = refusal(&controlled.service_command("swap", &["--unset-env", "MODE"]));
    assert!(
        why.contains("sent: the component of version 2 is not there any more"),
        "{why}"
    );
    // Nor is a file what it was, if it was written again.
    fs::copy(echo_evented.path(), &link).unwrap();
    controlled.swap(&link, &["--env", "MODE=line"]);
    fs::copy(controlled.scratch.build(echo_evented, 2), &link).unwrap();
    let why = refusal(&controlled.service_command("swap", &["--env", "MODE=upper"]));
    assert!(why.contains("there is another one"), "{why}");
    controlled.swap(&link, &["--env", "MODE=upper"]);
}

for_each_pair! { faults [blocking_threaded, concurrent_poll, evented_poll]: the_memory_of_instances_changes }
/// The limit is hit after the swap, and not before it or after the rollback.
fn the_memory_of_instances_changes(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--env", "MODE=half-close"]);
    let bytes = vec![b'x'; 6 << 20];
    let collect = || {
        let mut client = controlled.server.connect();
        client.send_some(&bytes);
        client.finish_sending();
        client.drain_after_fin().len()
    };
    assert_eq!(collect(), bytes.len());
    controlled.change(&["--max-memory", "4MiB"]);
    assert_eq!(
        controlled.status()["limits"]["max-memory-bytes"],
        4_u64 << 20
    );
    assert_eq!(collect(), 0);
    controlled.wait_for_status("the limit", |status| status["failed"]["memory"] == 1);
    controlled.service_command("rollback", &[]).printed();
    assert_eq!(collect(), bytes.len());
    let status = controlled.status();
    assert_eq!(status["failed"]["memory"], 1);
    assert_eq!(status["limits"]["max-memory-bytes"], 64_u64 << 20);
}

for_each_pair! { faults [blocking_threaded, concurrent_poll, evented_poll]: the_deadline_changes }
/// With the deadline of before it would never end.
fn the_deadline_changes(guest: Guest, dispatch: &str) {
    let options = ["--env", "MODE=spin", "--deadline", NEVER];
    let controlled = Controlled::start(guest, dispatch, &options);
    controlled.change(&["--deadline", "50ms"]);
    let mut client = controlled.server.connect();
    client.send("fault\n");
    client.expect_eof();
    let status =
        controlled.wait_for_status("the deadline", |status| status["failed"]["deadline"] == 1);
    assert_eq!(status["limits"]["deadline-seconds"], 0.05);
}

for_each_pair! { echo without sequential: the_number_of_connections_changes_both_ways }
fn the_number_of_connections_changes_both_ways(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--max-connections", "2"]);
    let connect = || {
        let mut client = controlled.server.connect();
        client.send("waits\n");
        client
    };
    let (mut first, mut second, mut third) = (connect(), connect(), connect());
    first.expect("waits\n");
    second.expect("waits\n");
    // There is no place for the third one before.
    assert_eq!(controlled.status()["open"], 2);
    controlled.change(&["--max-connections", "3"]);
    third.expect("waits\n");
    assert_eq!(controlled.status()["limits"]["max-connections"], 3);
    // None is closed if there are fewer.
    controlled.change(&["--max-connections", "1"]);
    for mut client in [first, second, third] {
        client.check_echo("still here\n");
        client.finish_sending();
        client.expect_eof();
    }
    let mut fourth = connect();
    fourth.expect("waits\n");
    let mut fifth = connect();
    fourth.check_echo("the only one\n");
    controlled.wait_for_status("the only one", |status| status["open"] == 1);
    controlled.service_command("rollback", &[]).printed();
    fifth.expect("waits\n");
    fourth.check_echo("not the only one\n");
    assert_eq!(controlled.status()["limits"]["max-connections"], 3);
    // There are more again before there were fewer.
    let mut sixth = connect();
    sixth.expect("waits\n");
    controlled.change(&["--max-connections", "1"]);
    controlled.service_command("rollback", &[]).printed();
    fourth.finish_sending();
    fourth.expect_eof();
    connect().expect("waits\n");
    drop((fifth, sixth));
    // A version with fewer instances leaves connections where they are, and says so.
    controlled.server.stop();
}

/// Each by its effect: a connection that would stay for an hour is ended.
#[test]
fn time_outs_change() {
    for (option, silent) in [
        ("--first-byte-timeout", true),
        ("--idle-timeout", false),
        ("--connection-timeout", false),
    ] {
        println!("{option}");
        let controlled = Controlled::start(echo_evented, "poll", &[option, NEVER]);
        let mut client = controlled.server.connect();
        if !silent {
            client.check_echo("before\n");
        }
        controlled.server.wait_for_open(&client);
        controlled.change(&[option, "50ms"]);
        client.expect_eof();
        let status =
            controlled.wait_for_status("the time-out", |status| status["failed"]["timeout"] == 1);
        let field = format!("{}-seconds", option.trim_start_matches("--"));
        assert_eq!(status["limits"][&field], 0.05);
        controlled.service_command("rollback", &[]).printed();
        assert_eq!(controlled.status()["limits"][&field], 3600.0);
    }
}

#[test]
fn the_time_for_a_write_changes() {
    let controlled = Controlled::start(echo_blocking, "threaded", &["--write-timeout", NEVER]);
    let mut stuck = Client::connect_narrow(controlled.server.address());
    stuck.send_until_stuck(&vec![b'x'; 16 << 20]);
    controlled.change(&["--write-timeout", "50ms"]);
    controlled.wait_for_status("the time-out", |status| status["failed"]["timeout"] == 1);
}

/// A peer that does not close its side is waited for no longer.
#[test]
fn the_time_for_a_close_changes() {
    let options = ["--env", "MODE=hello", "--linger", NEVER];
    let controlled = Controlled::start(echo_blocking, "threaded", &options);
    controlled.change(&["--linger", "10ms"]);
    let mut client = controlled.server.connect();
    assert!(!client.read_to_end().is_empty());
    controlled.server.wait_for_closed(1);
    drop(client);
}

/// A rollback by itself brings the settings back, too.
#[test]
fn a_version_that_fails_takes_its_settings_with_it() {
    let options = ["--rollback-least", "2", "--rollback-window", NEVER];
    let controlled = Controlled::start(faults_concurrent, "poll", &options);
    controlled.change(&["--env", "MODE=trap", "--idle-timeout", NEVER]);
    for _ in 0..2 {
        let mut client = controlled.server.connect();
        client.send("fault\n");
        client.expect_eof();
    }
    controlled.server.wait_for_version(3);
    let status = controlled.wait_for_status("the settings", |status| {
        status["limits"]["idle-timeout-seconds"].is_null()
    });
    assert_eq!(of_current(&status, "env"), json!([]));
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let controlled = Controlled::start(echo_evented, "poll", &["--env", "MODE=line"]);
    let check = |options: &[&str], status: i32, expected: &str| {
        let outcome = controlled.service_command("swap", options);
        assert_eq!(outcome.status, Some(status), "{outcome:?}");
        assert!(outcome.stdout.is_empty(), "{outcome:?}");
        assert_eq!(outcome.stderr.len(), 1, "{outcome:?}");
        assert!(outcome.stderr[0].contains(expected), "{outcome:?}");
    };
    check(
        &[],
        2,
        "nothing would change; name a component, or a setting",
    );
    check(&["--canary", "5"], 2, "nothing would change");
    check(&["--env", "MODE"], 2, "NAME=VALUE");
    check(&["--env", "=x"], 2, "NAME=VALUE");
    check(&["--max-memory", "1"], 2, "between 64KiB and 4GiB");
    check(&["--max-connections", "0"], 2, "1..=1000000");
    check(&["--deadline", "0s"], 2, "longer than zero");
    check(&["--idle-timeout", "soon"], 2, "it is no time");
    check(&["--backlog", "5"], 2, "--backlog");
    check(&["--dir", "/"], 2, "--dir");
    check(
        &["--unset-env", "OTHER"],
        1,
        "OTHER is no variable of the handler",
    );
    let both = ["--unset-env", "MODE", "--env", "MODE=upper"];
    check(&both, 1, "or is set by the same swap");
    check(&["--env", "MODE=shout"], 1, "expected stream, line");
    check(&["--max-memory", "64KiB"], 1, "raise --max-memory");
    for (body, expected) in [
        ("{}", "the swap changes nothing"),
        (r#"{"env": ["MODE"]}"#, "the body is no swap"),
        (r#"{"env": {"A=B": "1"}}"#, "env: A=B: "),
        (
            r#"{"limits": {"backlog": 5}}"#,
            "limits: backlog: no such limit",
        ),
        (
            r#"{"limits": {"max-memory": "much"}}"#,
            "limits: max-memory: write a size",
        ),
        (r#"{"dir": "/"}"#, "unknown field `dir`"),
        (r#"{"canary": 5}"#, "the swap changes nothing"),
    ] {
        let request = request("POST", "/v1/services/echo/swap", body);
        let (status, answer) = http(&controlled.socket(), &request).unwrap();
        assert!(status.contains(" 400 "), "{status} {answer}");
        assert!(answer.contains(expected), "{answer}");
    }
    // Nothing of this has changed anything.
    controlled.server.connect().check_echo("still\n");
    assert_eq!(controlled.status()["versions"][0]["number"], 1);
}

/// The limits of a service stay together with who may come in.
#[test]
fn a_limit_that_leaves_another_without_effect_is_refused() {
    let options = ["--max-connections-per-source", "5"];
    let controlled = Controlled::start(faults_blocking, "threaded", &options);
    let why = refusal(&controlled.service_command("swap", &["--max-connections", "5"]));
    assert!(why.contains("--max-connections-per-source"), "{why}");
    let fits = ["--max-connections", "6", "--env", "MODE=early"];
    controlled.change(&fits);
    controlled.server.connect().expect_eof();
}
