//! What instances take: what the status says of it, and the limit over all services.

use std::fs;

use serde_json::Value;

use crate::harness::control::Controlled;
use crate::harness::guests::{echo_blocking, echo_evented, faults_evented};
use crate::harness::scratch::Scratch;
use crate::harness::server::{CACHE, refused_to_start};
use crate::harness::{Client, Guest, Serve, Server};

/// Memory is counted in units of this size.
const UNIT: u64 = 64 << 10;

#[track_caller]
fn start(guest: Guest, dispatch: &str, options: &[&str]) -> Controlled {
    Controlled::start(guest, dispatch, &[&["--cache", CACHE], options].concat())
}

fn bytes(status: &Value) -> u64 {
    status["memory"]["bytes"].as_u64().unwrap()
}

/// Waits until so many instances are alive, and returns the status.
#[track_caller]
fn wait_for_instances(controlled: &Controlled, count: u64) -> Value {
    controlled.wait_for_status("instances", |it| it["memory"]["instances"] == count)
}

/// How much an instance of the guest has while it serves a connection.
fn one_instance(guest: Guest, dispatch: &str) -> u64 {
    let controlled = start(guest, dispatch, &[]);
    assert_eq!(bytes(&controlled.status()), 0);
    let mut client = controlled.server.connect();
    client.check_echo("hello\n");
    bytes(&wait_for_instances(&controlled, 1))
}

for_each_pair! {
    echo [blocking_threaded, blocking_poll, concurrent_threaded]:
    connections_wait_for_the_memory_of_others
}
fn connections_wait_for_the_memory_of_others(guest: Guest, dispatch: &str) {
    let units = one_instance(guest, dispatch).div_ceil(UNIT);
    // One unit less than three of them have.
    let total = ((3 * units - 1) * UNIT).to_string();
    let controlled = start(guest, dispatch, &["--max-memory-total", &total]);
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = controlled.server.connect();
        client.check_echo("hello\n");
        clients.push(client);
    }
    let mut third = controlled.server.connect();
    third.send("waiting\n");
    clients.push(third);
    controlled.server.wait_for_log("that it waits", |event| {
        event.message().contains("(--max-memory-total is ")
    });
    let status = wait_for_instances(&controlled, 2);
    assert_eq!(status["open"], 3, "{status:#}");
    assert!(clients[2].is_silent());
    let mut first = clients.remove(0);
    first.finish_sending();
    first.expect_eof();
    clients[1].expect("waiting\n");
    for mut client in clients {
        client.finish_sending();
        client.expect_eof();
    }
    let status = wait_for_instances(&controlled, 0);
    assert_eq!(bytes(&status), 0, "{status:#}");
}

/// One that waits is a connection as others are: it can be ended, and its time-outs count.
#[test]
fn a_connection_that_waits_for_memory_can_be_ended() {
    let units = one_instance(echo_blocking, "threaded").div_ceil(UNIT);
    let total = (units * UNIT).to_string();
    let options = ["--max-memory-total", &total, "--idle-timeout", "1h"];
    let controlled = start(echo_blocking, "threaded", &options);
    let mut first = controlled.server.connect();
    first.check_echo("hello\n");
    let mut second = controlled.server.connect();
    controlled.server.wait_for_log("that it waits", |event| {
        event.message().contains("(--max-memory-total is ")
    });
    let killed = controlled.command(["kill", "2"]).printed();
    assert_eq!(killed.len(), 1, "{killed:?}");
    second.expect_eof();
    first.check_echo("still here\n");
    let status = controlled.wait_for_status("the end", |status| status["open"] == 1);
    assert_eq!(status["failed"]["killed"], 1, "{status:#}");
}

/// An instance that serves all has nobody to wait for: it ends, and that is not the
/// guest's fault.
#[test]
fn an_instance_that_grows_past_the_limit_of_all_ends() {
    let server = Serve::guest(faults_evented, "poll")
        .compiled_once()
        .env("MODE=hog")
        .args(["--max-memory-total", "8MiB"])
        .start();
    let mut client = server.connect();
    client.check_echo("before");
    client.send("fault\n");
    client.expect_eof();
    server.wait_for_log("the failure", |event| {
        let died = "instance died and its connections are closed: the host failed: no memory left";
        event.message().starts_with(died) && event.str("fault") == "host"
    });
    // The next one has the room.
    server.connect().check_echo("after");
}

/// A service that cannot have one instance does not start, and says which limit it is.
#[test]
fn a_limit_without_room_for_one_instance_is_said_at_the_start() {
    let said = refused_to_start(echo_evented, "poll", &["--max-memory-total", "64KiB"]);
    assert!(said.contains("(--max-memory-total)"), "{said}");
}

/// An instance that is shared is one, and what it has is what its service has.
#[test]
fn the_status_has_the_memory_the_calls_and_the_rates() {
    let controlled = start(echo_evented, "poll", &["--idle-timeout", "90s"]);
    let mut clients: Vec<_> = (0..3).map(|_| controlled.server.connect()).collect();
    for client in &mut clients {
        client.check_echo("hello\n");
    }
    let status = wait_for_instances(&controlled, 1);
    assert!(bytes(&status) > UNIT, "{status:#}");
    let limits = &status["limits"];
    assert_eq!(limits["max-connections"], 1024);
    assert_eq!(limits["max-memory-bytes"], 64 << 20);
    assert_eq!(limits["idle-timeout-seconds"], 90.0);
    assert_eq!(limits["write-timeout-seconds"], Value::Null);
    let calls = &status["calls"];
    let counted = |buckets: &Value| -> u64 {
        let buckets = buckets.as_array().unwrap().iter();
        buckets.map(|it| it["count"].as_u64().unwrap()).sum()
    };
    // At least one turn tells of a connection, and one of its bytes.
    assert!(calls["count"].as_u64().unwrap() >= 2, "{status:#}");
    assert_eq!(counted(&calls["buckets"]), calls["count"]);
    let rates = &status["rates"];
    let [seconds, accepted] = ["seconds", "accepted"].map(|field| rates[field].as_f64().unwrap());
    assert!((accepted * seconds - 3.0).abs() < 0.01, "{status:#}");
    let printed = controlled.command(["status"]).printed();
    for part in [
        "  per second   accepted ",
        "  calls        ",
        "  memory       instances 1  bytes ",
        "  limits       connections 1024  memory 64.0 MiB  deadline 1s  idle-timeout 1m 30s",
    ] {
        let has = printed.iter().any(|line| line.starts_with(part));
        assert!(has, "{part}: {printed:#?}");
    }
}

for_each_pair! {
    echo [blocking_threaded, concurrent_poll]:
    a_call_is_a_whole_connection_where_it_serves_one
}
fn a_call_is_a_whole_connection_where_it_serves_one(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[]);
    let mut open = controlled.server.connect();
    open.check_echo("hello\n");
    for _ in 0..2 {
        let mut client: Client = controlled.server.connect();
        client.check_echo("hello\n");
        client.finish_sending();
        client.expect_eof();
    }
    let status = controlled.wait_for_status("two ends", |status| status["handled"] == 2);
    assert_eq!(status["calls"]["count"], 2, "{status:#}");
}

/// An idle instance of another service has the memory that lacks (`--reuse`).
#[test]
fn an_idle_instance_gives_its_memory_to_who_needs_it() {
    let units = one_instance(echo_blocking, "threaded").div_ceil(UNIT);
    let scratch = Scratch::new();
    let file = scratch.path("sockserve.toml");
    // One unit less than two of them have.
    let total = (2 * units - 1) * UNIT;
    let text = format!(
        "max-memory-total = \"{total}\"\n\
         [defaults]\ncomponent = {:?}\nlisten = \"tcp://127.0.0.1:0\"\nreuse = 9\n\
         dispatch = \"threaded\"\n\
         [services.a]\n[services.b]\n",
        echo_blocking.path()
    );
    fs::write(&file, text).unwrap();
    let server = Server::of_config(&file, 2);
    for round in 1..=3 {
        for address in &server.addresses {
            let mut client = Client::connect(*address);
            client.check_echo("hello\n");
            client.finish_sending();
            client.expect_eof();
        }
        server.wait_for_closed(2 * round);
    }
    server.stop().check_no_alarm();
}
