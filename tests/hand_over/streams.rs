//! Bytes that are on their way when versions change: each of them comes back once
//! and in its place, and the end of file comes last.
//!
//! What changes is two builds of the same echo, so nothing shows at all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::noise::Noise;
use super::{Flag, builds, start};
use crate::harness::control::{Controlled, failed};
use crate::harness::guests::{echo_blocking, echo_concurrent, echo_evented};
use crate::harness::pairs::guests_under;
use crate::harness::{Client, Guest, noise};

const STREAMS: usize = 4;
const SWAPS: usize = 30;

/// Peers that send and read as fast as they can, while versions change round the
/// chain of `components`.
#[track_caller]
fn check(controlled: Controlled, components: &[String], streams: usize) {
    let noise = Noise::new();
    let readers: Vec<Client> = (0..streams).map(|_| controlled.server.connect()).collect();
    let done = AtomicBool::new(false);
    let sums: Vec<(u64, u64)> = thread::scope(|scope| {
        let _flag = Flag(&done);
        let streaming: Vec<_> = readers
            .iter()
            .map(|reader| {
                let (noise, done) = (&noise, &done);
                let mut writer = reader.another();
                let sending = scope.spawn(move || noise.send(&mut writer, done));
                let receiving = scope.spawn(move || noise.receive(reader));
                (sending, receiving)
            })
            .collect();
        for swap in 0..SWAPS {
            controlled.swap_at_once(&components[swap % components.len()]);
        }
        done.store(true, Ordering::Relaxed);
        let sums = streaming
            .into_iter()
            .map(|(sending, receiving)| (sending.join().unwrap(), receiving.join().unwrap()));
        sums.collect()
    });
    for (sent, received) in &sums {
        assert_eq!(sent, received);
        assert!(*sent > 1 << 20, "{sent}");
    }
    let status = controlled.wait_for_settled(0);
    assert_eq!(failed(&status), 0, "{status:#}");
    assert_eq!(status["handled"], streams);
    assert!(status["hand-overs"]["handed-over"].as_u64().unwrap() >= streams as u64);
    println!("{sums:?}, {}", status["hand-overs"]);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo: every_byte_of_a_stream_comes_back_in_its_place }
fn every_byte_of_a_stream_comes_back_in_its_place(guest: Guest, dispatch: &str) {
    let controlled = start(guest, dispatch, &[]);
    let streams = if dispatch == "sequential" { 1 } else { STREAMS };
    let components = builds(&controlled, guest);
    check(controlled, &components, streams);
}

#[test]
fn every_byte_of_a_stream_comes_back_through_every_contract() {
    let controlled = start(echo_evented, "poll", &[]);
    let chain = [echo_blocking, echo_concurrent, echo_evented].map(Guest::builtin);
    check(controlled, &chain, STREAMS);
}

for_each_pair! { echo: what_a_peer_has_not_read_goes_along }
/// Output that the kernel does not take goes along: in the host's hands under
/// 0.2, in the guest's state under 0.3.
fn what_a_peer_has_not_read_goes_along(guest: Guest, dispatch: &str) {
    let bytes = noise(32 << 20);
    let controlled = start(guest, dispatch, &[]);
    let mut reader = Client::connect_narrow(controlled.server.address());
    let sent = reader.send_until_stuck(&bytes);
    assert!(sent < bytes.len());
    let builds = builds(&controlled, guest);
    for swap in 0..4 {
        controlled.swap_at_once(&builds[swap % 2]);
        // It has left the version before in the middle of a write.
        controlled.wait_for_settled(1);
    }
    // What it sends from now on comes behind.
    let mut writer = reader.another();
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.send(&bytes[sent..]);
            writer.finish_sending();
        });
        assert!(reader.read_to_end() == bytes, "not the same bytes");
    });
    let status = controlled.wait_for_settled(0);
    assert_eq!(status["hand-overs"]["handed-over"], 4);
    assert_eq!(failed(&status), 0, "{status:#}");
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo: a_peer_that_has_finished_sending_gets_the_rest }
/// A peer that has sent all and reads slowly is served on, though nothing will come
/// from it any more.
fn a_peer_that_has_finished_sending_gets_the_rest(guest: Guest, dispatch: &str) {
    let bytes = noise(32 << 20);
    let controlled = start(guest, dispatch, &[]);
    let mut client = Client::connect_narrow(controlled.server.address());
    let sent = client.send_until_stuck(&bytes);
    client.finish_sending();
    for build in builds(&controlled, guest) {
        controlled.swap_at_once(&build);
        controlled.wait_for_settled(1);
    }
    assert!(client.read_to_end() == bytes[..sent], "not the same bytes");
    let status = controlled.wait_for_settled(0);
    assert_eq!(status["hand-overs"]["handed-over"], 2);
    controlled.server.stop().check_no_alarm();
}

for_each_pair! {
    echo without sequential:
    what_the_host_has_still_to_send_goes_out_under_every_contract
}
/// What the host has taken and the kernel has not is sent on, though the new
/// version knows nothing of it: its handler has read all there is, and only waits.
// From: 57e4f7c, a review of hand-over.
fn what_the_host_has_still_to_send_goes_out_under_every_contract(old: Guest, dispatch: &str) {
    for new in guests_under("echo", dispatch) {
        println!("to {}", new.name);
        let controlled = start(old, dispatch, &[]);
        let mut client = Client::connect_narrow(controlled.server.address());
        let bytes = noise(64 << 20);
        let mut sent = 0;
        // A little at a time, so that the handler reads all of it.
        while !is_backed_up(&controlled, sent) {
            client.send(&bytes[sent..sent + STEP]);
            sent += STEP;
            controlled.wait_for_bytes_in(sent);
        }
        let next = if new == old {
            controlled.scratch.build(new, 7)
        } else {
            new.path()
        };
        controlled.swap_at_once(next.to_str().unwrap());
        controlled.wait_for_settled(1);
        assert!(
            client.read_exact(sent) == bytes[..sent],
            "not the same bytes"
        );
        client.check_echo("and then");
        client.finish_sending();
        client.expect_eof();
    }
}

/// Much less than the host takes off a handler's hands.
const STEP: usize = 16 << 10;

/// Whether not all has been sent back of what was read. It may have been a moment
/// ago only, so it is looked at twice.
fn is_backed_up(controlled: &Controlled, sent: usize) -> bool {
    (0..2).all(|_| controlled.status()["bytes-out"].as_u64().unwrap() < sent as u64)
}
