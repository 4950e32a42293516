//! `--reuse`: an instance that serves one connection after another, and what ends it.

use crate::harness::control::Controlled;
use crate::harness::server::CACHE;
use crate::harness::{Client, Guest, Serve, Server};

/// A guest whose instance tells each connection how many it has served with that one.
fn serve(guest: Guest, dispatch: &str, options: &[&str]) -> Serve {
    Serve::guest(guest, dispatch)
        .compiled_once()
        .env("MODE=count")
        .args(options)
}

/// A connection that is the `count`th of its instance.
#[track_caller]
fn expect(server: &Server, count: u32) -> Client {
    let mut client = server.connect();
    client.expect(format!("connection {count}\r\n"));
    client
}

/// The same, which then ends.
#[track_caller]
fn check(server: &Server, counts: &[u32]) {
    for count in counts {
        let mut client = expect(server, *count);
        client.check_echo("hello\n");
        client.finish_sending();
        wait_for_end(server, client);
    }
}

/// Waits until the connection is closed. Its peer may get the end of file before the handler
/// has returned.
#[track_caller]
fn wait_for_end(server: &Server, mut client: Client) {
    client.expect_eof();
    let peer = client.local().to_string();
    drop(client);
    server.wait_for_log("that it is closed", |event| {
        event.message() == "connection closed" && event.str("peer") == peer
    });
}

for_each_pair! { faults isolated: an_instance_serves_so_many_connections }
fn an_instance_serves_so_many_connections(guest: Guest, dispatch: &str) {
    let server = serve(guest, dispatch, &["--reuse", "3"]).start();
    check(&server, &[1, 2, 3, 1, 2, 3, 1]);
    server.stop().check_no_alarm();
}

for_each_pair! { faults isolated: by_default_each_connection_has_a_new_instance }
fn by_default_each_connection_has_a_new_instance(guest: Guest, dispatch: &str) {
    for options in [&[][..], &["--reuse", "1"]] {
        let server = serve(guest, dispatch, options).start();
        check(&server, &[1, 1, 1]);
        server.stop().check_no_alarm();
    }
}

for_each_pair! { faults isolated: an_instance_that_fails_serves_no_other }
/// One whose handler returns an error does: that is an end like another.
fn an_instance_that_fails_serves_no_other(guest: Guest, dispatch: &str) {
    let options = [
        "--reuse",
        "100",
        "--deadline",
        "200ms",
        "--max-memory",
        "8MiB",
    ];
    let server = serve(guest, dispatch, &options).start();
    check(&server, &[1]);
    for (mode, count) in [("err", 2), ("trap", 3), ("spin", 1), ("hog", 1)] {
        let mut client = expect(&server, count);
        client.send(format!("fault {mode}\n"));
        wait_for_end(&server, client);
    }
    check(&server, &[1, 2]);
    assert_eq!(server.stop().alarms().len(), 4);
}

for_each_pair! { faults [blocking_threaded, blocking_poll, concurrent_threaded]: one_at_a_time }
/// As many instances as there are connections at once, each with a count of its own, and no
/// more than there may be.
fn one_at_a_time(guest: Guest, dispatch: &str) {
    let options = ["--reuse", "100", "--max-connections", "2"];
    let server = serve(guest, dispatch, &options).start();
    for count in 1..10 {
        let mut clients = [expect(&server, count), expect(&server, count)];
        for client in &mut clients {
            client.check_echo("both\n");
            client.finish_sending();
        }
        for mut client in clients {
            client.expect_eof();
        }
    }
    server.stop().check_no_alarm();
}

for_each_pair! { faults isolated: a_connection_that_is_killed_takes_its_instance_along }
fn a_connection_that_is_killed_takes_its_instance_along(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch);
    check(&controlled.server, &[1]);
    let client = expect(&controlled.server, 2);
    let opened = controlled.server.wait_for_open(&client);
    let number = opened.connection().unwrap().to_string();
    controlled.command(["kill", &number]).printed();
    wait_for_end(&controlled.server, client);
    check(&controlled.server, &[1, 2]);
}

/// A guest that is swapped.
#[track_caller]
fn start(guest: Guest, dispatch: &str) -> Controlled {
    let options = ["--reuse", "100", "--env", "MODE=count", "--cache", CACHE];
    Controlled::start(guest, dispatch, &options)
}

/// Waits until so many instances are alive.
#[track_caller]
fn wait_for_instances(controlled: &Controlled, count: u64) {
    controlled.wait_for_status("instances", |it| it["memory"]["instances"] == count);
}

for_each_pair! { faults isolated: a_swap_drops_what_is_idle }
fn a_swap_drops_what_is_idle(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch);
    check(&controlled.server, &[1, 2]);
    wait_for_instances(&controlled, 1);
    controlled.swap(controlled.scratch.build(guest, 1), &[]);
    wait_for_instances(&controlled, 0);
    check(&controlled.server, &[1, 2]);
    // One that is idle waits for the next connection, of this service only.
    wait_for_instances(&controlled, 1);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { faults isolated: a_hand_over_ends_the_instance }
/// The one that takes over goes on to serve others.
fn a_hand_over_ends_the_instance(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch);
    check(&controlled.server, &[1, 2]);
    let mut client = expect(&controlled.server, 3);
    client.check_echo("before\n");
    controlled.swap(controlled.scratch.build(guest, 1), &[]);
    client.expect("connection 1\r\n");
    client.check_echo("after\n");
    wait_for_instances(&controlled, 1);
    client.finish_sending();
    wait_for_end(&controlled.server, client);
    check(&controlled.server, &[2]);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { counter [blocking_threaded, concurrent_threaded]: what_was_half_read_stays_behind }
fn what_was_half_read_stays_behind(guest: Guest, dispatch: &str) {
    let options = ["--reuse", "100", "--cache", CACHE];
    let controlled = Controlled::start(guest, dispatch, &options);
    for number in 1..4 {
        let mut client = controlled.server.connect();
        client.send("one\nhalf");
        client.expect("1 one\n");
        controlled.wait_for_bytes_in(8 * number);
        client.reset();
        controlled.server.wait_for_closed(number);
    }
    let mut client = controlled.server.connect();
    client.send("two\n");
    client.expect("1 two\n");
}

for_each_pair! { faults [blocking_threaded, concurrent_threaded]: a_printed_line_names_the_connection_of_its_time }
fn a_printed_line_names_the_connection_of_its_time(guest: Guest, dispatch: &str) {
    let server = Serve::guest(guest, dispatch)
        .compiled_once()
        .env("MODE=print")
        .args(["--reuse", "100"])
        .start();
    for _ in 0..3 {
        let mut client = server.connect();
        client.send("x");
        client.expect("printed\r\n");
        wait_for_end(&server, client);
    }
    let finished = server.stop();
    let printed = finished
        .log
        .iter()
        .filter(|event| event.is_guest() && event.message().starts_with("not UTF-8"));
    let connections: Vec<_> = printed.map(|event| event.connection()).collect();
    assert_eq!(connections, [1, 1, 2, 2, 3, 3].map(Some));
}
