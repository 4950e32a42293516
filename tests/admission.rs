//! Who may come in: each limit reached, exceeded and recovered from, and what the peers
//! and the administrator see of it.
//!
//! 127.0.0.0/8 is all this machine, so a test has as many sources as it likes.
//!
//! | file | |
//! | --- | --- |
//! | `farewell` | what a refused peer sees |
//! | `waiting` | limits at which peers wait |
//! | `rules` | addresses and times of the day |
//! | `datagrams` | the same for datagrams |
//! | `end` | services that end by themselves |
//! | `arguments` | options that do nothing, and other mistakes |

mod arguments;
mod datagrams;
mod end;
mod farewell;
mod rules;
mod waiting;

use std::time::Instant;

use serde_json::Value;

use crate::harness::control::{Controlled, failed};
use crate::harness::guests::{echo_blocking, echo_evented};
use crate::harness::log::Event;
use crate::harness::server::{CACHE, Finished};
use crate::harness::{Client, Guest, PATIENCE};

/// A guest with these options, and a control socket.
#[track_caller]
fn start(guest: Guest, dispatch: &str, options: &[&str]) -> Controlled {
    Controlled::start(guest, dispatch, &[&["--cache", CACHE], options].concat())
}

/// A peer from another address than 127.0.0.1.
#[track_caller]
fn connect_from(controlled: &Controlled, source: [u8; 4]) -> Client {
    Client::connect_from(source, controlled.server.address())
}

fn sum(counts: &Value) -> u64 {
    let counts = counts.as_object().unwrap().values();
    counts.map(|count| count.as_u64().unwrap()).sum()
}

/// Waits until so many have been accepted, and each of them is open, handled, failed or
/// refused. Checks how many were refused for `reason`, and that none was for another.
#[track_caller]
fn check_sums(controlled: &Controlled, accepted: u64, reason: &str, refused: u64) -> Value {
    let status = controlled.wait_for_status("sums that add up", |status| {
        let sums = ["open", "handled"].map(|field| status[field].as_u64().unwrap());
        let all = sums[0] + sums[1] + failed(status) + sum(&status["refused"]);
        status["accepted"] == accepted && all == accepted
    });
    assert_eq!(status["refused"][reason], refused, "{status:#}");
    assert_eq!(sum(&status["refused"]), refused, "{status:#}");
    status
}

/// The lines about refused peers of an ended server: those that say one, and the sums.
fn refusals(finished: &Finished) -> (Vec<&Event>, Vec<&Event>) {
    let said = |part: &str| -> Vec<_> {
        let lines = finished.log.iter().filter(|it| it.str("level") != "DEBUG");
        lines.filter(|it| it.message().starts_with(part)).collect()
    };
    (
        said("refused; more of these"),
        said("refused since the last line"),
    )
}

for_each_pair! {
    echo [blocking_threaded, concurrent_poll, evented_poll]:
    silent_peers_of_one_address_lock_nobody_else_out
}
fn silent_peers_of_one_address_lock_nobody_else_out(guest: Guest, dispatch: &str) {
    let limits = [
        "--max-connections",
        "5",
        "--max-connections-per-source",
        "2",
    ];
    let controlled = start(guest, dispatch, &limits);
    let mut silent: Vec<_> = (0..5).map(|_| controlled.server.connect()).collect();
    for refused in &mut silent[2..] {
        refused.expect_eof();
    }
    let mut other = connect_from(&controlled, [127, 0, 0, 2]);
    other.check_echo("hello");
    check_sums(&controlled, 6, "connections-per-source", 3);
    // One that goes makes room for one of the same address.
    silent.remove(0);
    controlled.server.wait_for_closed(1);
    let mut next = controlled.server.connect();
    next.check_echo("hello");
    controlled.server.connect().expect_eof();
    check_sums(&controlled, 8, "connections-per-source", 4);
    let text = controlled.command(["status"]).printed();
    assert!(text[1].contains("refused 4"), "{text:?}");
    let reasons = "  refused      rules 0  access-times 0  connections-per-source 4  \
                   rate-per-source 0  handler 0";
    assert!(text.iter().any(|line| line == reasons), "{text:?}");
    drop((silent, next, other));
    let finished = controlled.server.stop();
    let last = finished.log.last().unwrap();
    assert_eq!(last.number("refused"), Some(4));
    // No instance was made for a refused peer: none has a connection.
    let opened = |event: &&Event| event.message() == "connection opened";
    assert_eq!(finished.log.iter().filter(opened).count(), 4);
}

#[test]
fn five_hundred_sources_have_as_many_places_each() {
    let controlled = start(echo_evented, "poll", &["--max-connections-per-source", "1"]);
    let source = |number: u16| {
        let [high, low] = number.to_be_bytes();
        [127, 1, high, low]
    };
    for round in 1..=2 {
        let mut clients = Vec::new();
        for number in 1..=500 {
            let mut client = connect_from(&controlled, source(number));
            client.check_echo("hello");
            clients.push(client);
        }
        for number in 1..=500 {
            connect_from(&controlled, source(number)).expect_eof();
        }
        let round = u64::from(round as u32);
        check_sums(
            &controlled,
            round * 1000,
            "connections-per-source",
            round * 500,
        );
        drop(clients);
        controlled.wait_for_status("nobody", |status| status["open"] == 0);
    }
    let finished = controlled.server.stop();
    let (said, sums) = refusals(&finished);
    // However many there are: one line, and the sum at the end.
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(said[0].str("level"), "WARN");
    assert!(said[0].str("peer").starts_with("127.1."), "{said:?}");
    assert_eq!(said[0].str("reason"), "connections-per-source");
    let counts = sums.iter().map(|sum| sum.number("count").unwrap());
    assert_eq!(counts.sum::<u64>(), 999, "{sums:?}");
    assert!(sums.iter().all(|sum| sum.str("level") == "INFO"));
}

/// Each connection has its place until it is closed, whichever version serves it.
#[test]
fn a_place_lasts_through_a_hand_over() {
    let controlled = start(echo_evented, "poll", &["--max-connections-per-source", "1"]);
    let mut client = controlled.server.connect();
    client.check_echo("before");
    let build = controlled.scratch.build(echo_evented, 1);
    controlled.swap(&build, &[]);
    controlled.wait_for_settled(1);
    controlled.server.connect().expect_eof();
    client.check_echo("after");
    drop(client);
    controlled.wait_for_status("nobody", |status| status["open"] == 0);
    controlled.server.connect().check_echo("next");
    check_sums(&controlled, 3, "connections-per-source", 1);
}

#[test]
fn a_source_may_come_at_its_rate_only() {
    let rate = [
        "--connections-per-second-per-source",
        "1",
        "--burst-per-source",
        "3",
    ];
    let controlled = start(echo_blocking, "threaded", &rate);
    // Many more than the burst.
    let all = 50;
    let clients: Vec<_> = (0..all).map(|_| controlled.server.connect()).collect();
    let status = controlled.wait_for_status("all of them", |status| status["accepted"] == all);
    let refused = status["refused"]["rate-per-source"].as_u64().unwrap();
    assert!((1..=all - 3).contains(&refused), "{status}");
    connect_from(&controlled, [127, 0, 0, 2]).check_echo("another source");
    drop(clients);
    check_sums(&controlled, all + 1, "rate-per-source", refused);
    // A token comes after a while.
    let begun = Instant::now();
    let mut came = all + 1;
    loop {
        let mut client = controlled.server.connect();
        came += 1;
        client.send_some(b"hello");
        if client.drain_after_fin() == b"hello" {
            break;
        }
        assert!(begun.elapsed() < PATIENCE);
    }
    let status = controlled.status();
    let refused = status["refused"]["rate-per-source"].as_u64().unwrap();
    check_sums(&controlled, came, "rate-per-source", refused);
}

/// The source of a peer over a Unix socket is its user.
#[test]
fn users_are_sources_over_unix_sockets() {
    let options = ["--cache", CACHE, "--max-connections-per-source", "1"];
    let scratch = crate::harness::scratch::Scratch::new();
    let path = scratch.path("s");
    let url = format!("unix://{}", path.display());
    let urls = [&*url, "tcp://127.0.0.1:0"];
    let controlled = Controlled::listening(echo_evented, "poll", &urls, &options);
    let mut client = Client::connect_unix(&path);
    client.check_echo("hello");
    Client::connect_unix(&path).expect_eof();
    // Another source.
    controlled.server.connect().check_echo("hello");
    drop(client);
    controlled.wait_for_status("nobody", |status| status["open"] == 0);
    Client::connect_unix(&path).check_echo("hello");
    check_sums(&controlled, 4, "connections-per-source", 1);
    let finished = controlled.server.stop();
    let (said, _) = refusals(&finished);
    assert!(said[0].str("peer").starts_with("unix:uid="), "{said:?}");
}
