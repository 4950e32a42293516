//! What an instance knows passes to the next version, into a file, and from there to the
//! next start. What passes with a connection is in `hand_over`.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::command::sockserve;
use crate::harness::control::Controlled;
use crate::harness::guests::{
    echo_evented, faults_datagram, faults_datagram_concurrent, faults_state_concurrent,
    faults_state_evented, kv_concurrent, kv_evented,
};
use crate::harness::scratch::{Scratch, write_build};
use crate::harness::server::CACHE;
use crate::harness::{Client, Guest, PATIENCE, Serve, Server};

/// Past the patience of a test, so that no timeout helps.
const NEVER: &str = "1h";

fn start(guest: Guest, dispatch: &str, options: &[&str]) -> Controlled {
    Controlled::start(guest, dispatch, &[&["--cache", CACHE], options].concat())
}

/// The number of the current version.
fn current(status: &Value) -> u64 {
    let versions = status["versions"].as_array().unwrap();
    versions.last().unwrap()["number"].as_u64().unwrap()
}

#[track_caller]
fn set(client: &mut Client, key: &str, value: &str) {
    client.send(format!("SET {key} {value}\n"));
    client.expect("OK\r\n");
}

#[track_caller]
fn check(client: &mut Client, key: &str, value: &str) {
    client.send(format!("GET {key}\n"));
    client.expect(format!("{value}\r\n"));
}

for_each_pair! { kv shared: values_pass_to_the_next_version_and_back }
fn values_pass_to_the_next_version_and_back(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[]);
    let mut client = controlled.server.connect();
    set(&mut client, "a", "before");
    let build = controlled.scratch.build(guest, 1);
    let outcome = controlled.command(["swap".as_ref(), guest.family().as_ref(), build.as_os_str()]);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(
        outcome.stdout[0].ends_with(" bytes of state taken over"),
        "{outcome:?}"
    );
    check(&mut client, "a", "before");
    set(&mut client, "b", "after");
    check(&mut controlled.server.connect(), "a", "before");
    let back = controlled.command(["rollback", guest.family()]);
    assert_eq!(back.status, Some(0), "{back:?}");
    check(&mut client, "b", "after");
    check(&mut controlled.server.connect(), "a", "before");
    let status = controlled.wait_for_settled(1);
    assert_eq!(current(&status), 3, "{status}");
    drop(client);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { kv shared: values_change_their_contract }
fn values_change_their_contract(guest: Guest, dispatch: &str) {
    let other = match guest.contract() {
        "evented" => kv_concurrent,
        _ => kv_evented,
    };
    let controlled = start(guest, dispatch, &[]);
    let mut client = controlled.server.connect();
    set(&mut client, "a", "1");
    controlled.swap(other.builtin(), &[]);
    check(&mut client, "a", "1");
    check(&mut controlled.server.connect(), "a", "1");
    drop(client);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { kv shared: a_version_without_connections_passes_on_what_it_was_given }
/// Its instance was made for the state alone.
fn a_version_without_connections_passes_on_what_it_was_given(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[]);
    let mut client = controlled.server.connect();
    set(&mut client, "a", "1");
    client.finish_sending();
    client.expect_eof();
    for number in 1..=3 {
        controlled.swap(controlled.scratch.build(guest, number), &[]);
    }
    check(&mut controlled.server.connect(), "a", "1");
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { kv shared: no_value_is_lost_over_a_hundred_swaps_under_load }
fn no_value_is_lost_over_a_hundred_swaps_under_load(guest: Guest, dispatch: &str) {
    const SWAPS: u8 = 100;
    let controlled = start(guest, dispatch, &[]);
    let builds = [1, 2].map(|number| controlled.scratch.build(guest, number));
    let done = AtomicBool::new(false);
    let known: Vec<u32> = thread::scope(|scope| {
        let talking: Vec<_> = (0..4)
            .map(|peer| {
                let (server, done) = (&controlled.server, &done);
                scope.spawn(move || {
                    let mut kept = server.connect();
                    let mut count = 0;
                    while !done.load(Ordering::Relaxed) {
                        set(&mut kept, &format!("{peer}-{count}"), "kept");
                        count += 1;
                        // Others come and go.
                        let mut short = server.connect();
                        set(&mut short, &format!("{peer}-{count}"), "short");
                        check(&mut short, &format!("{peer}-{}", count - 1), "kept");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for swap in 0..SWAPS {
            controlled.swap(&builds[usize::from(swap % 2)], &[]);
        }
        done.store(true, Ordering::Relaxed);
        talking.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let mut client = controlled.server.connect();
    client.send("COUNT\n");
    client.expect(format!("{}\r\n", known.iter().sum::<u32>()));
    for (peer, count) in known.iter().enumerate() {
        assert!(*count > 0);
        for key in 0..*count {
            let value = if key % 2 == 0 { "kept" } else { "short" };
            check(&mut client, &format!("{peer}-{key}"), value);
        }
    }
    drop(client);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { kv shared: connections_that_drain_stay_and_the_values_are_copied }
fn connections_that_drain_stay_and_the_values_are_copied(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &["--drain-timeout", NEVER]);
    let mut old = controlled.server.connect();
    set(&mut old, "a", "1");
    controlled.swap(controlled.scratch.build(guest, 1), &["--old", "drain"]);
    let mut new = controlled.server.connect();
    check(&mut new, "a", "1");
    // From here on they are two.
    set(&mut old, "a", "2");
    check(&mut new, "a", "1");
    check(&mut old, "a", "2");
    drop((old, new));
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { kv shared: a_component_that_takes_no_state_is_refused_unless_the_state_is_discarded }
fn a_component_that_takes_no_state_is_refused_unless_the_state_is_discarded(
    guest: Guest,
    dispatch: &str,
) {
    let controlled = start(guest, dispatch, &[]);
    let mut client = controlled.server.connect();
    set(&mut client, "a", "1");
    client.send("GET ");
    controlled.wait_for_bytes_in("SET a 1\nGET ".len());
    let why = controlled.swap_refused(echo_evented.builtin(), &[]);
    let expected = "builtin:echo-evented: it does not take over the state of version 1 (kv/1, ";
    assert!(why.contains(expected), "{why}");
    let expected = "its component does not export instance-state; --discard-state goes to it";
    assert!(why.contains(expected), "{why}");
    // The old version goes on, with its half-read line.
    client.send("a\n");
    client.expect("1\r\n");
    check(&mut controlled.server.connect(), "a", "1");
    assert_eq!(current(&controlled.status()), 1);
    // The same number again, and now it works.
    let build = controlled.scratch.build(guest, 1);
    assert_eq!(controlled.swap(&build, &["--discard-state"]), 2);
    check(&mut client, "a", "(none)");
    set(&mut client, "b", "2");
    assert_eq!(
        controlled
            .command(["rollback", "kv", "--discard-state"])
            .status,
        Some(0)
    );
    check(&mut client, "b", "(none)");
    drop(client);
    controlled.server.stop().check_no_alarm();
}

#[test]
fn a_state_of_another_tag_is_refused_by_the_component() {
    for (guest, other) in [
        (kv_evented, faults_state_evented),
        (kv_concurrent, faults_state_concurrent),
    ] {
        let controlled = start(guest, "poll", &["--env", "STATE=keep"]);
        let mut client = controlled.server.connect();
        set(&mut client, "a", "1");
        let why = controlled.swap_refused(other.path(), &[]);
        assert!(why.contains("the tag is kv/1: expected faults/1"), "{why}");
        check(&mut client, "a", "1");
        drop(client);
        controlled.server.stop().check_no_alarm();
    }
}

/// Whatever a guest does with a state, its connections go on: with the old version if the
/// new one is to blame.
#[test]
fn who_restores_wrongly_does_not_become_current() {
    for guest in [faults_state_evented, faults_state_concurrent] {
        for (state, reason) in [
            ("refuse", "deliberate refusal"),
            ("foreign", "the tag is nobody/9: expected faults/1"),
            ("trap-restore", "unreachable"),
            ("spin-restore", "deadline"),
        ] {
            let state = format!("STATE={state}");
            let controlled = start(guest, "poll", &["--env", &state, "--deadline", "300ms"]);
            let mut client = controlled.server.connect();
            client.check_echo("before\n");
            let why = controlled.swap_refused(controlled.scratch.build(guest, 1), &[]);
            assert!(why.contains(reason), "{state}: {why}");
            client.check_echo("after\n");
            controlled.server.connect().check_echo("another\n");
            let status = controlled.status();
            assert_eq!(
                (current(&status), &status["failed"]["trap"]),
                (1, &0.into())
            );
            drop(client);
            controlled.server.stop().check_no_alarm();
        }
    }
}

#[test]
fn more_than_any_other_result_passes() {
    for guest in [faults_state_evented, faults_state_concurrent] {
        let controlled = start(guest, "poll", &["--env", "STATE=much"]);
        let mut client = controlled.server.connect();
        client.check_echo("before\n");
        assert_eq!(controlled.swap(controlled.scratch.build(guest, 1), &[]), 2);
        client.check_echo("after\n");
        drop(client);
        controlled.server.stop().check_no_alarm();
    }
}

/// The instance is gone then, and with it what it knew: the swap goes on without.
#[test]
fn who_dies_in_save_costs_its_connections_and_no_swap() {
    for guest in [faults_state_evented, faults_state_concurrent] {
        for state in ["trap-save", "spin-save", "wait-save"] {
            let state = format!("STATE={state}");
            let controlled = start(guest, "poll", &["--env", &state, "--deadline", "300ms"]);
            let mut client = controlled.server.connect();
            client.check_echo("before\n");
            let build = controlled.scratch.build(guest, 1);
            let swap = ["swap".as_ref(), "faults_state".as_ref(), build.as_os_str()];
            let drain = ["--old".as_ref(), "drain".as_ref()];
            let outcome = controlled.command(swap.into_iter().chain(drain));
            assert_eq!(outcome.status, Some(0), "{outcome:?}");
            let lost = "the instance died as it was to save what it knew, and that is lost";
            assert!(outcome.stdout[0].contains(lost), "{outcome:?}");
            client.expect_eof();
            controlled.server.wait_for_log("the loss", |event| {
                event.message() == "what the instance knew is gone with it"
            });
            controlled.server.connect().check_echo("another\n");
            controlled.server.stop();
        }
    }
}

/// Asks a guest that counts for its next number.
fn counting(server: &Server) -> impl Fn() -> String + use<> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.address()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    move || {
        socket.send(b"count").unwrap();
        let mut answer = [0; 100];
        let length = socket.recv(&mut answer).unwrap();
        String::from_utf8(answer[..length].to_vec()).unwrap()
    }
}

for_each_pair! { faults_datagrams shared: datagrams_have_states_too }
fn datagrams_have_states_too(guest: Guest, dispatch: &str) {
    let options = ["--cache", CACHE, "--env", "STATE=keep"];
    let controlled = Controlled::listening(guest, dispatch, &["udp://127.0.0.1:0"], &options);
    let count = counting(&controlled.server);
    let check = |expected: &str| assert_eq!(count(), expected);
    check("1");
    check("2");
    controlled.swap(controlled.scratch.build(guest, 1), &[]);
    check("3");
    // No datagram comes between these.
    controlled.swap(controlled.scratch.build(guest, 2), &[]);
    controlled.swap(controlled.scratch.build(guest, 3), &[]);
    check("4");
    let other = match guest.contract() {
        "datagram" => faults_datagram_concurrent,
        _ => faults_datagram,
    };
    controlled.swap(other.path(), &[]);
    check("5");
    let why = controlled.swap_refused("builtin:echo-datagram", &[]);
    assert!(why.contains("does not export instance-state"), "{why}");
    check("6");
    controlled.server.stop().check_no_alarm();
}

#[test]
fn datagrams_lose_with_an_instance_what_it_knew_and_it_is_said() {
    for guest in [faults_datagram, faults_datagram_concurrent] {
        let options = ["--cache", CACHE, "--env", "STATE=trap-save"];
        let controlled = Controlled::listening(guest, "poll", &["udp://127.0.0.1:0"], &options);
        assert_eq!(counting(&controlled.server)(), "1");
        let outcome = controlled.command([
            "swap".as_ref(),
            "faults".as_ref(),
            controlled.scratch.build(guest, 1).as_os_str(),
        ]);
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
        assert!(outcome.stdout[0].contains("is lost"), "{outcome:?}");
        let finished = controlled.server.stop();
        let is_death = |message: &str| message.starts_with("instance died: the guest trapped");
        let alarms = finished.alarms();
        assert!(alarms.iter().any(|it| is_death(it.message())), "{alarms:?}");
    }
}

/// A peer that reads nothing has more output waiting than a state may have. Its connection
/// stays, and costs nobody else anything.
#[test]
fn a_connection_with_too_large_a_state_stays_and_the_values_pass() {
    let controlled = start(kv_evented, "poll", &[]);
    let mut client = controlled.server.connect();
    set(&mut client, "big", &"x".repeat(1000));
    // As many as one read takes.
    const TIMES: usize = 8000;
    let mut greedy = controlled.server.connect();
    greedy.send("GET big\n".repeat(TIMES));
    controlled.wait_for_bytes_in("GET big\n".len() * TIMES + "SET big \n".len() + 1000);
    controlled.swap(controlled.scratch.build(kv_evented, 1), &[]);
    check(&mut client, "big", &"x".repeat(1000));
    greedy.expect(format!("{}\r\n", "x".repeat(1000)).repeat(TIMES));
    drop((client, greedy));
    let finished = controlled.server.stop();
    let alarms = finished.alarms();
    let stays = "connection not handed over, it goes on where it was: its state has";
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert!(alarms[0].message().starts_with(stays), "{alarms:?}");
}

/// A server whose state is in this file.
fn with_file(guest: Guest, file: &Path, options: &[&str]) -> Server {
    Serve::guest(guest, "poll")
        .compiled_once()
        .args(["--state-file".as_ref(), file.as_os_str()])
        .args(options)
        .start()
}

for_each_pair! { kv shared: a_restart_keeps_the_values }
fn a_restart_keeps_the_values(guest: Guest, _: &str) {
    let scratch = Scratch::new();
    let file = scratch.path("kept");
    let server = with_file(guest, &file, &["--drain-timeout", NEVER]);
    let mut client = server.connect();
    set(&mut client, "a", "1");
    drop(client);
    server.stop().check_no_alarm();
    // The drain's timeout passes with a connection open.
    let server = with_file(guest, &file, &["--drain-timeout", "0s"]);
    let mut client = server.connect();
    check(&mut client, "a", "1");
    set(&mut client, "b", "2");
    server.stop();
    // Two signals.
    let server = with_file(guest, &file, &["--drain-timeout", NEVER]);
    let mut client = server.connect();
    check(&mut client, "b", "2");
    set(&mut client, "c", "3");
    server.terminate();
    server.wait_for_log("the drain", |event| event.message() == "draining");
    server.terminate();
    assert_eq!(server.finish().status.code(), Some(1));
    // Nobody comes.
    with_file(guest, &file, &[]).stop().check_no_alarm();
    let server = with_file(guest, &file, &[]);
    let mut client = server.connect();
    for (key, value) in [("a", "1"), ("b", "2"), ("c", "3")] {
        check(&mut client, key, value);
    }
    drop(client);
    server.stop().check_no_alarm();
    let kept: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
}

/// However the service ends, its exit status tells.
#[test]
fn a_file_that_cannot_be_written_at_the_end_is_a_failure() {
    for (timeout, is_open, signals) in [(NEVER, false, 1), ("0s", true, 1), (NEVER, true, 2)] {
        let scratch = Scratch::new();
        let folder = scratch.path("folder");
        fs::create_dir(&folder).unwrap();
        let server = with_file(
            kv_evented,
            &folder.join("kept"),
            &["--drain-timeout", timeout],
        );
        let mut client = server.connect();
        set(&mut client, "a", "1");
        let client = is_open.then_some(client);
        if client.is_none() {
            server.wait_for_closed(1);
        }
        fs::remove_dir(&folder).unwrap();
        server.terminate();
        if signals == 2 {
            server.wait_for_log("the drain", |event| event.message() == "draining");
            server.terminate();
        }
        let mut process = server.process;
        assert_eq!(process.wait().code(), Some(1));
        let lines = process.stderr.lines();
        let last = lines.last().unwrap();
        let file = folder.join("kept");
        let expected = format!("--state-file {}: No such file", file.display());
        assert!(last.contains(&expected), "{lines:#?}");
    }
}

#[test]
fn a_restart_keeps_what_datagrams_left() {
    for guest in [faults_datagram, faults_datagram_concurrent] {
        let scratch = Scratch::new();
        let file = scratch.path("kept");
        for expected in ["1", "2", "3"] {
            let server = Serve::guest(guest, "poll")
                .compiled_once()
                .args(["--state-file".as_ref(), file.as_os_str()])
                .env("STATE=keep")
                .listen("udp://127.0.0.1:0")
                .start();
            assert_eq!(counting(&server)(), expected);
            server.stop().check_no_alarm();
        }
    }
}

/// It stays as it is, and so does one that nobody can write over.
#[test]
fn a_file_that_cannot_be_taken_is_refused_by_name_and_kept() {
    let scratch = Scratch::new();
    let file = scratch.path("kept");
    let server = with_file(kv_evented, &file, &[]);
    set(&mut server.connect(), "a", "1");
    server.stop();
    let whole = fs::read(&file).unwrap();
    let refused = |guest: Guest, options: &[&str], path: &Path, status: i32, expected: &str| {
        let guest = guest.path();
        let mut args = vec!["serve".as_ref(), guest.as_os_str()];
        args.extend(["--listen", "tcp://127.0.0.1:0", "--state-file"].map(std::ffi::OsStr::new));
        args.push(path.as_os_str());
        args.extend(options.iter().map(std::ffi::OsStr::new));
        let outcome = sockserve(args);
        assert_eq!(outcome.status, Some(status), "{outcome:?}");
        assert_eq!(outcome.stderr.len(), 1, "{outcome:?}");
        assert!(outcome.stderr[0].contains(expected), "{outcome:?}");
    };
    let name = file.file_name().unwrap().to_str().unwrap();
    for (damaged, what) in [
        (&b""[..], "it is no state file"),
        (b"something of the user's\n", "it is no state file"),
        (&whole[..whole.len() - 1], "it is cut off"),
        (
            &[&whole[..], b"\n"].concat(),
            "it has more bytes than its state",
        ),
        (&whole.to_ascii_uppercase(), "it is no state file"),
    ] {
        fs::write(&file, damaged).unwrap();
        refused(kv_evented, &[], &file, 1, what);
        refused(kv_evented, &[], &file, 1, name);
        assert_eq!(fs::read(&file).unwrap(), damaged);
    }
    fs::write(&file, &whole).unwrap();
    let keep = ["--env", "STATE=keep"];
    refused(
        faults_state_evented,
        &keep,
        &file,
        1,
        "the tag is kv/1: expected faults/1",
    );
    assert_eq!(fs::read(&file).unwrap(), whole);
    refused(
        echo_evented,
        &[],
        &file,
        2,
        "--state-file needs one instance for all",
    );
    refused(
        kv_concurrent,
        &["--dispatch", "threaded"],
        &file,
        2,
        "--state-file needs",
    );
    refused(
        kv_evented,
        &[],
        &scratch.path("nowhere/kept"),
        1,
        "No such file or directory",
    );
    refused(
        kv_evented,
        &[],
        scratch.path("kept").parent().unwrap(),
        1,
        "it is no regular file",
    );
}

#[test]
fn an_instance_that_dies_takes_what_it_knew_with_it() {
    let scratch = Scratch::new();
    let file = scratch.path("kept");
    fs::write(&file, "").unwrap();
    fs::remove_file(&file).unwrap();
    for guest in [faults_state_evented, faults_state_concurrent] {
        let server = with_file(guest, &file, &["--env", "STATE=keep"]);
        let mut client = server.connect();
        client.send("fault\n");
        client.expect_eof();
        server.wait_for_log("the loss", |event| {
            event.message() == "what the instance knew is gone with it"
        });
        let log = server.stop().log;
        let kept = |message: &str| message.starts_with("state not kept, the file is as it was");
        assert!(log.iter().any(|event| kept(event.message())), "{log:?}");
        assert!(!file.exists());
    }
}

#[test]
fn a_changed_file_takes_over_too() {
    let scratch = Scratch::new();
    let file = scratch.path("watched.wasm");
    write_build(&file, kv_evented, 1);
    let server = Serve::component(&file).args(["--watch"]).start();
    let mut client = server.connect();
    set(&mut client, "a", "1");
    write_build(&file, kv_evented, 2);
    server.wait_for_version(2);
    check(&mut client, "a", "1");
    // Also at a signal.
    write_build(&file, kv_evented, 3);
    server.process.signal(Signal::HUP);
    server.wait_for_version(3);
    check(&mut server.connect(), "a", "1");
    drop(client);
    server.stop().check_no_alarm();
}
