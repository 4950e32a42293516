//! `--loops`: several event loops for a handler whose instance serves all connections, each
//! with a thread and an instance.

use std::fs;

use crate::harness::command::sockserve;
use crate::harness::control::{Controlled, failed, open};
use crate::harness::guests::{chat_evented, echo_concurrent, echo_evented, kv_evented};
use crate::harness::scratch::Scratch;
use crate::harness::{Client, Guest, Serve};

/// What makes a guest of the family `faults` trap under `MODE=trap`.
const TRIGGER: &str = "fault\n";

/// The threads of a process with an event loop of the service `echo`, beside the first.
fn loops(process: u32) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let names = tasks.filter_map(|task| {
        // One may end meanwhile.
        fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    let mut loops: Vec<_> = names
        .map(|name| name.trim_end().to_owned())
        .filter(|name| name.starts_with("loop-"))
        .collect();
    loops.sort();
    loops
}

/// Wrong arguments.
const USAGE: i32 = 2;
/// It did not work.
const FAILED: i32 = 1;

/// Starts a guest with two loops, which is refused. Returns the line that says why.
#[track_caller]
fn refused(guest: Guest, dispatch: &str) -> String {
    let path = guest.path();
    refused_component(path.to_str().unwrap(), dispatch, &["--loops", "2"], USAGE)
}

/// Does the same with what names a component, and any options.
#[track_caller]
fn refused_component(component: &str, dispatch: &str, options: &[&str], status: i32) -> String {
    let listen = match component.contains("datagram") {
        true => "udp://127.0.0.1:0",
        false => "tcp://127.0.0.1:0",
    };
    let serve = ["serve", component, "--dispatch", dispatch];
    let outcome = sockserve([&serve[..], &["--listen", listen], options].concat());
    let [line] = outcome.stderr.as_slice() else {
        panic!("not one line: {outcome:#?}");
    };
    assert_eq!(outcome.status, Some(status), "{line}");
    line.clone()
}

for_each_pair! { faults shared: a_trap_costs_the_connections_of_its_loop }
/// New connections go to the loops in turn: every other one shares an instance with the
/// first.
fn a_trap_costs_the_connections_of_its_loop(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .env("MODE=trap")
        .env("ROLLING=1")
        .args(["--loops", "2"])
        .start();
    let connect = || -> Vec<Client> {
        let clients = (0..4).map(|_| {
            let mut client = server.connect();
            client.check_echo("before");
            client
        });
        clients.collect()
    };
    let mut clients = connect();
    clients[0].send(TRIGGER);
    clients[0].expect_eof();
    clients[2].expect_eof();
    clients[1].check_echo("after");
    clients[3].check_echo("after");
    // The loop goes on with another instance.
    let mut later = connect();
    clients[1].send(TRIGGER);
    for died in [1, 3] {
        clients[died].expect_eof();
    }
    later[0].check_echo("after");
    later[2].check_echo("after");
    for died in [1, 3] {
        later[died].expect_eof();
    }
    drop((clients, later));
    let finished = server.stop();
    let died: Vec<_> = finished
        .alarms()
        .iter()
        .map(|event| event.number("connections"))
        .collect();
    assert_eq!(died, [Some(2), Some(4)]);
}

for_each_pair! { echo shared: all_loops_take_part_in_a_swap }
/// Half a line before each swap, and the rest after it.
fn all_loops_take_part_in_a_swap(guest: Guest, dispatch: &str) {
    let options = [
        "--loops",
        "3",
        "--env",
        "MODE=line",
        "--drain-timeout",
        "1h",
    ];
    let controlled = Controlled::start(guest, dispatch, &options);
    let of_echo = ["loop-1-echo", "loop-2-echo"];
    assert_eq!(loops(controlled.server.process.id()), of_echo);
    let mut clients: Vec<Client> = (0..12).map(|_| controlled.server.connect()).collect();
    let mut bytes = 0;
    let other = match guest.contract() {
        "evented" => echo_concurrent,
        _ => echo_evented,
    };
    for next in [other, guest, other] {
        for client in &mut clients {
            client.send("half ");
        }
        bytes += clients.len() * 5;
        controlled.wait_for_bytes_in(bytes);
        controlled.swap(next.path(), &[]);
        let status = controlled.wait_for_settled(clients.len());
        assert_eq!((failed(&status), open(&status)), (0, vec![12]));
        for client in &mut clients {
            client.send("a line\n");
            client.expect("half a line\n");
        }
        bytes += clients.len() * 7;
    }
    for client in &mut clients {
        client.finish_sending();
        client.expect_eof();
    }
    assert_eq!(loops(controlled.server.process.id()), of_echo);
    drop(clients);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo shared: a_drain_waits_for_the_connections_of_all_loops }
fn a_drain_waits_for_the_connections_of_all_loops(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .args(["--loops", "2", "--drain-timeout", "1h"])
        .start();
    let mut clients: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.check_echo("before");
    }
    server.terminate();
    for client in &mut clients {
        client.check_echo("after");
        client.finish_sending();
        client.expect_eof();
    }
    drop(clients);
    server.finish().check_no_alarm();
}

/// What one instance has, as the status says.
fn bytes_of_one(guest: Guest) -> u64 {
    let controlled = Controlled::start(guest, "poll", &[]);
    let mut client = controlled.server.connect();
    client.check_echo("hello");
    let status = controlled.status();
    assert_eq!(status["limits"]["loops"], 1);
    assert_eq!(status["memory"]["instances"], 1);
    status["memory"]["bytes"].as_u64().unwrap()
}

for_each_pair! { echo shared: the_memory_of_all_services_has_room_for_the_instances_of_all_loops }
fn the_memory_of_all_services_has_room_for_the_instances_of_all_loops(
    guest: Guest,
    dispatch: &str,
) {
    // Memory is counted in units of 64 KiB.
    let instance = bytes_of_one(guest).div_ceil(64 << 10) * (64 << 10);
    let [two, five] = [2, 5].map(|instances| (instances * instance).to_string());
    let path = guest.path();
    // All or none: else some loops would refuse all their connections.
    let options = ["--loops", "3", "--max-memory-total", &two];
    let refusal = refused_component(path.to_str().unwrap(), dispatch, &options, FAILED);
    assert!(
        refusal.contains("no memory left for 3 instances"),
        "{refusal}"
    );
    let options = ["--loops", "3", "--max-memory-total", &five];
    let controlled = Controlled::start(guest, dispatch, &options);
    let mut clients = [(); 6].map(|()| controlled.server.connect());
    for client in &mut clients {
        client.check_echo("before");
    }
    // At a swap those of both versions are there.
    let refusal = controlled.swap_refused(guest.path(), &["--env", "MODE=upper"]);
    assert!(
        refusal.contains("no memory left for 3 instances"),
        "{refusal}"
    );
    for client in &mut clients {
        client.check_echo("after");
    }
    drop(clients);
    controlled.server.stop().check_no_alarm();
}

/// A chat room would be two rooms, and what an instance knows cannot pass to two others.
#[test]
fn handlers_whose_connections_may_depend_on_each_other_are_refused() {
    for guest in [chat_evented, kv_evented] {
        let refusal = refused(guest, "poll");
        for part in ["may depend on each other", "--loops 2", "rolling-hand-over"] {
            assert!(refusal.contains(part), "{refusal}");
        }
    }
    // One loop is what there is without the option.
    let server = Serve::guest(chat_evented, "poll")
        .args(["--loops", "1"])
        .start();
    assert!(loops(server.process.id()).is_empty());
    server.stop().check_no_alarm();
}

for_each_pair! { echo shared: who_cannot_hand_over_can_say_that_they_do_not }
/// Only `rolling-hand-over` says it, and `hand-over` is not needed. At a swap nothing rolls:
/// the connections of all loops drain.
fn who_cannot_hand_over_can_say_that_they_do_not(guest: Guest, dispatch: &str) {
    let scratch = Scratch::new();
    let without = scratch.without_hand_over(guest);
    let options = ["--loops", "2", "--drain-timeout", "1h"];
    let controlled = Controlled::start(guest, dispatch, &options);
    let swapped = controlled.try_swap(&without).unwrap();
    assert_eq!(swapped["old"], "drain");
    assert_eq!(loops(controlled.server.process.id()), ["loop-1-echo"]);
    let mut clients = [(); 4].map(|()| controlled.server.connect());
    for client in &mut clients {
        client.check_echo("before\n");
    }
    let status = controlled.status();
    assert_eq!(status["memory"]["instances"], 2, "{status:#}");
    let swapped = controlled.try_swap(guest.path()).unwrap();
    assert_eq!(swapped["old"], "drain");
    for client in &mut clients {
        client.check_echo("after\n");
        client.finish_sending();
        client.expect_eof();
    }
    drop(clients);
    controlled.server.stop().check_no_alarm();
    // At the start it is the same.
    let server = Serve::component(&without)
        .args(["--dispatch", dispatch, "--loops", "2"])
        .start();
    server.connect().check_echo("hello\n");
    server.stop().check_no_alarm();
}

for_each_pair! { faults shared: who_says_that_they_depend_on_each_other_is_refused }
fn who_says_that_they_depend_on_each_other_is_refused(guest: Guest, dispatch: &str) {
    let refusal = refused(guest, dispatch);
    assert!(refusal.contains("may depend on each other"), "{refusal}");
}

for_each_pair! { echo shared: a_swap_to_such_a_handler_is_refused }
fn a_swap_to_such_a_handler_is_refused(guest: Guest, dispatch: &str) {
    let controlled = Controlled::start(guest, dispatch, &["--loops", "2"]);
    let mut clients = [(); 2].map(|()| controlled.server.connect());
    let chat = guest.in_family("chat");
    let refusal = controlled.swap_refused(chat.path(), &[]);
    assert!(refusal.contains("may depend on each other"), "{refusal}");
    for client in &mut clients {
        client.check_echo("still here");
    }
    drop(clients);
    controlled.server.stop().check_no_alarm();
}

#[test]
fn loops_without_an_effect_are_refused() {
    for (component, dispatch) in [
        ("builtin:echo-blocking", "poll"),
        ("builtin:echo-concurrent", "threaded"),
        ("builtin:echo-datagram", "poll"),
    ] {
        let refusal = refused_component(component, dispatch, &["--loops", "2"], USAGE);
        assert!(
            refusal.contains("--loops is for handlers of evented"),
            "{refusal}"
        );
    }
}
