//! The contract `command`: programs, whose standard input and output are the connection.
//! That they serve what the other contracts serve is tested with those.

use serde_json::Value;

use crate::harness::command::sockserve;
use crate::harness::control::{Controlled, failed};
use crate::harness::guests::{echo_command, upper_command};
use crate::harness::server::CACHE;
use crate::harness::{Client, Guest, Serve, noise, text};

/// A program with these arguments, and a control socket.
#[track_caller]
fn start(guest: Guest, dispatch: &str, options: &[&str], arguments: &[&str]) -> Controlled {
    let options = [&["--cache", CACHE], options, &["--"], arguments].concat();
    Controlled::start(guest, dispatch, &options)
}

/// Waits until one connection has failed for this reason, and nothing else has.
#[track_caller]
fn wait_for_failure(controlled: &Controlled, reason: &str) -> Value {
    let status = controlled.wait_for_status(reason, |status| failed(status) > 0);
    assert_eq!(status["failed"][reason], 1, "{status}");
    assert_eq!(failed(&status), 1, "{status}");
    status
}

for_each_pair! { faults_commands: an_exit_status_is_the_connections }
fn an_exit_status_is_the_connections(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[], &["say", "hello", "1"]);
    // What it has written arrives all the same.
    controlled.server.connect().expect("hello");
    wait_for_failure(&controlled, "error");
    let said = "the handler returned an error: exit status 1";
    let logged = |event: &crate::harness::log::Event| event.message().ends_with(said);
    controlled.server.wait_for_log(said, logged);
    let finished = controlled.server.stop();
    assert_eq!(finished.alarms().len(), 1, "{:#?}", finished.alarms());

    for status in ["exit", "say"] {
        let arguments = [status, "0", "0"];
        let count = if status == "exit" { 2 } else { 3 };
        let controlled = start(guest, dispatch, &[], &arguments[..count]);
        controlled.server.connect().drain();
        controlled.wait_for_status("its end", |status| status["handled"] == 1);
        controlled.server.stop().check_no_alarm();
    }
}

for_each_pair! { faults_commands: a_program_that_dies_costs_its_own_connection }
fn a_program_that_dies_costs_its_own_connection(guest: Guest, dispatch: &str) {
    for (fault, reason) in [("trap", "trap"), ("spin", "deadline"), ("grow", "memory")] {
        let options = ["--deadline", "100ms", "--max-memory", "16MiB"];
        let controlled = start(guest, dispatch, &options, &[fault]);
        controlled.server.connect().drain();
        wait_for_failure(&controlled, reason);
        // Another one gets its own.
        controlled.server.connect().drain();
        controlled.wait_for_status("the second", |status| failed(status) == 2);
        assert_eq!(controlled.server.stop().alarms().len(), 2);
    }
}

for_each_pair! { faults_commands: a_program_gets_its_arguments }
fn a_program_gets_its_arguments(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[], &["one", "two words", "", "--listen"]);
    let mut client = controlled.server.connect();
    client.expect("faults_command.wasm\none\ntwo words\n\n--listen\n");
    client.expect_eof();
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_commands: a_program_knows_its_peer }
/// By the variables of ucspi, which a granted variable cannot replace.
fn a_program_knows_its_peer(guest: Guest, dispatch: &str) {
    let scratch = crate::harness::scratch::Scratch::new();
    let path = scratch.path("s");
    let unix = format!("unix://{}", path.display());
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .env("A=b=c")
        .env("TCPREMOTEIP=10.0.0.1")
        .env("UNIXREMOTEEUID=12345")
        .listen("tcp://127.0.0.1:0")
        .listen(&unix)
        .arguments(&["environment"])
        .start();
    let variables = |client: &mut Client| {
        let all = String::from_utf8(client.read_to_end()).unwrap();
        let mut lines: Vec<_> = all.lines().map(ToOwned::to_owned).collect();
        lines.sort();
        lines
    };
    let mut client = server.connect();
    let (own, other) = (client.local(), server.address());
    let expected = [
        "A=b=c".to_owned(),
        "PROTO=TCP".to_owned(),
        "TCPLOCALIP=127.0.0.1".to_owned(),
        format!("TCPLOCALPORT={}", other.port()),
        "TCPREMOTEIP=127.0.0.1".to_owned(),
        format!("TCPREMOTEPORT={}", own.port()),
        "UNIXREMOTEEUID=12345".to_owned(),
    ];
    assert_eq!(variables(&mut client), expected);
    let mut client = Client::connect_unix(&path);
    let expected = [
        "A=b=c".to_owned(),
        "PROTO=UNIX".to_owned(),
        "TCPREMOTEIP=10.0.0.1".to_owned(),
        format!("UNIXLOCALPATH={}", path.display()),
        format!("UNIXREMOTEEGID={}", rustix::process::getegid().as_raw()),
        format!("UNIXREMOTEEUID={}", rustix::process::geteuid().as_raw()),
        "UNIXREMOTEPATH=".to_owned(),
        format!("UNIXREMOTEPID={}", std::process::id()),
    ];
    assert_eq!(variables(&mut client), expected);
    server.stop().check_no_alarm();
}

for_each_pair! { faults_commands: a_program_reads_to_the_end_of_file_and_answers }
fn a_program_reads_to_the_end_of_file_and_answers(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[], &["count"]);
    let mut client = controlled.server.connect();
    client.send(noise(3_000_000));
    client.finish_sending();
    client.expect("3000000 bytes\n");
    client.expect_eof();
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_commands: a_program_sees_that_its_peer_is_gone }
/// A write fails as one to a closed pipe does, and a read as one from a reset socket.
fn a_program_sees_that_its_peer_is_gone(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[], &["flood"]);
    let mut client = controlled.server.connect();
    client.read_exact(1 << 20);
    client.reset();
    let event = controlled.server.wait_for_log("flood's end", |event| {
        event.is_guest() && event.message().starts_with("flood: ")
    });
    assert_eq!(event.message(), "flood: BrokenPipe");
    wait_for_failure(&controlled, "peer");
    controlled.server.stop().check_no_alarm();

    let controlled = start(guest, dispatch, &[], &["count"]);
    let mut client = controlled.server.connect();
    client.send("some");
    controlled.wait_for_status("it is read", |status| status["bytes-in"] == 4);
    client.reset();
    controlled.server.wait_for_log("count's end", |event| {
        event.is_guest() && event.message().starts_with("count: ")
    });
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_commands: a_peer_that_does_not_read_holds_the_program_back }
fn a_peer_that_does_not_read_holds_the_program_back(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[], &["flood"]);
    let mut client = Client::connect_narrow(controlled.server.address());
    let sent = |status: &Value| status["bytes-out"].as_u64().unwrap();
    // It stands still when the buffers are full.
    let mut before = 0;
    let status = controlled.wait_for_status("a stand-still", |status| {
        let now = sent(status);
        std::mem::replace(&mut before, now) == now && now > 0
    });
    assert!(sent(&status) < 64 << 20, "{status}");
    assert_eq!(status["open"], 1);
    // And goes on when somebody reads.
    for _ in 0..100 {
        assert!(client.read_exact(1 << 20).iter().all(|byte| *byte == b'x'));
    }
    client.reset();
    controlled.wait_for_status("its end", |status| status["open"] == 0);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults_commands: a_program_that_waits_is_ended_at_the_drain_timeout }
fn a_program_that_waits_is_ended_at_the_drain_timeout(guest: Guest, dispatch: &str) {
    let options = ["--drain-timeout", "200ms"];
    let controlled = start(guest, dispatch, &options, &["sleep", "60000"]);
    let mut client = controlled.server.connect();
    controlled.wait_for_status("it waits", |status| status["open"] == 1);
    controlled.server.terminate();
    assert_eq!(text(client.drain()), "");
    assert_eq!(controlled.server.finish().status.code(), Some(0));
}

/// A program keeps its connection, and the next connection gets the next version.
#[test]
fn a_swap_drains_programs() {
    for dispatch in ["threaded", "poll"] {
        let controlled = start(echo_command, dispatch, &[], &["unused"]);
        let mut before = controlled.server.connect();
        before.check_echo("before");
        controlled.swap(upper_command.path(), &[]);
        let mut after = controlled.server.connect();
        after.send("after\n");
        after.expect("AFTER\n");
        before.check_echo("still there");
        before.finish_sending();
        before.expect_eof();
        drop(after);
        controlled.wait_for_status("the old one's end", |status| {
            status["versions"].as_array().unwrap().len() == 1
        });
        controlled.server.stop().check_no_alarm();
    }
}

for_each_pair! { faults_commands_p3: a_program_on_wasi_0_3_is_one_too }
/// WASI 0.3 has other streams.
fn a_program_on_wasi_0_3_is_one_too(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[], &["unused"]);
    let ready = &controlled.server.ready[0];
    let expected = format!(" contract=command dispatch={dispatch}");
    assert!(ready.ends_with(&expected), "{ready}");
    let mut client = controlled.server.connect();
    client.check_echo("hello");
    client.check_echo(noise(100_000));
    client.finish_sending();
    client.expect_eof();
    controlled.wait_for_status("its end", |status| status["handled"] == 1);
    controlled.server.stop().check_no_alarm();

    let controlled = start(guest, dispatch, &[], &["fail"]);
    let mut client = controlled.server.connect();
    client.send("last");
    client.finish_sending();
    assert_eq!(text(client.read_to_end()), "last");
    wait_for_failure(&controlled, "error");
    controlled.server.wait_for_log("what it says", |event| {
        event.is_guest() && event.message() == "fails on purpose"
    });
    assert_eq!(controlled.server.stop().alarms().len(), 1);
}

#[test]
fn inspect_says_what_a_program_is() {
    let lines = sockserve(["inspect", "builtin:upper-command"]).printed();
    for expected in [
        "contract    command",
        "dispatches  sequential, threaded (default), poll",
        "hand-over   none; its connections drain",
    ] {
        assert!(lines.contains(&expected.to_owned()), "{lines:#?}");
    }
    for (import, need) in [
        ("wasi:cli/stdin@", "provided; is the connection"),
        ("wasi:cli/stdout@", "provided; is the connection"),
        ("wasi:cli/stderr@", "provided; goes to the log"),
    ] {
        let is_said = |line: &String| line.contains(import) && line.ends_with(need);
        assert!(lines.iter().any(is_said), "{import}: {lines:#?}");
    }
}
