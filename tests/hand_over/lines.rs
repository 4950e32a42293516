//! Two hundred peers talk without pause while a hundred versions come and go.
//!
//! What changes is `echo` by line and `upper`, which answer each line wholly, so
//! an answer says which of them gave it. Nothing may show but that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::peer::Peer;
use super::{Flag, STAYS, start};
use crate::harness::control::{Controlled, failed};
use crate::harness::guests::{
    echo_blocking, echo_concurrent, echo_evented, upper_blocking, upper_concurrent, upper_evented,
};
use crate::harness::{Guest, PATIENCE};

const PEERS: usize = 200;
const SWAPS: usize = 100;
/// Each talks for its share of the peers, so that the threads of the test leave
/// the server some time.
const THREADS: usize = 4;

const BY_LINE: [&str; 2] = ["--env", "MODE=line"];

/// Peers who come while the others talk, say a few lines, and go.
fn come_and_go(controlled: &Controlled, done: &AtomicBool) -> usize {
    let mut count = 0;
    while !done.load(Ordering::Relaxed) {
        let mut peer = Peer::connect(controlled.server.address(), PEERS + count);
        for _ in 0..3 {
            peer.speak();
            peer.listen();
        }
        peer.conclude();
        peer.leave();
        count += 1;
    }
    count
}

/// Talks for each of `peers` in turn. All have said something before the first
/// answer is read. Says so when they have all their answers.
fn talk(peers: &mut [Peer], done: &AtomicBool, round: &Sender<()>) {
    while !done.load(Ordering::Relaxed) {
        peers.iter_mut().for_each(Peer::speak);
        peers.iter_mut().for_each(Peer::listen);
        let _ = round.send(());
    }
}

/// Waits until one of the threads has been round once more.
#[track_caller]
fn wait_for_round(rounds: &Receiver<()>) {
    while rounds.try_recv().is_ok() {}
    rounds.recv_timeout(PATIENCE).unwrap();
}

/// The versions change round the `chain`.
#[track_caller]
fn check(chain: &[Guest], dispatch: &str, peers: usize) {
    let controlled = start(chain[0], dispatch, &BY_LINE);
    let address = controlled.server.address();
    let mut peers: Vec<Peer> = (0..peers)
        .map(|number| Peer::connect(address, number))
        .collect();
    let share = peers.len().div_ceil(THREADS);
    let done = AtomicBool::new(false);
    let (round, rounds) = mpsc::channel();
    let came = thread::scope(|scope| {
        let _flag = Flag(&done);
        // Under `sequential` a peer that comes waits until all others have gone.
        let coming =
            (dispatch != "sequential").then(|| scope.spawn(|| come_and_go(&controlled, &done)));
        for peers in peers.chunks_mut(share) {
            let (done, round) = (&done, round.clone());
            scope.spawn(move || talk(peers, done, &round));
        }
        for swap in 1..=SWAPS {
            let component = chain[swap % chain.len()].builtin();
            // Most of them come while connections are still on their way from the
            // one before, and every fourth when lines have been said.
            if swap % 4 > 0 {
                controlled.swap_without_waiting(component, swap + 1);
            } else {
                wait_for_round(&rounds);
                controlled.swap_at_once(component);
            }
        }
        done.store(true, Ordering::Relaxed);
        coming.map(|coming| coming.join().unwrap())
    });
    peers.iter_mut().for_each(Peer::conclude);
    let status = controlled.wait_for_settled(peers.len());
    assert_eq!(failed(&status), 0, "{status:#}");
    assert_eq!(status["accepted"], peers.len() + came.unwrap_or_default());
    let moves = &status["hand-overs"];
    assert_eq!(moves["refused"], 0);
    // Nobody is where it began.
    assert!(moves["handed-over"].as_u64().unwrap() >= peers.len() as u64);
    let (echoed, raised) = peers.iter().fold((0, 0), |(echoed, raised), peer| {
        (echoed + peer.echoed, raised + peer.raised)
    });
    assert!(echoed > 0 && raised > 0, "{echoed} {raised}");
    assert_ne!(came, Some(0));
    println!("{echoed} lines echoed, {raised} raised, {came:?} came, {moves}");

    let is_upper = chain[SWAPS % chain.len()].family() == "upper";
    for peer in &mut peers {
        peer.client.send("Who is it?\n");
        peer.client.expect(if is_upper {
            "WHO IS IT?\n"
        } else {
            "Who is it?\n"
        });
        peer.leave();
    }
    controlled.server.stop().check_no_alarm();
}

for_each_pair! { echo: no_line_is_lost }
/// Under `sequential` the turn goes along with the one connection that has it.
fn no_line_is_lost(echo: Guest, dispatch: &str) {
    let peers = if dispatch == "sequential" { 1 } else { PEERS };
    check(&[echo, echo.in_family("upper")], dispatch, peers);
}

#[test]
fn no_line_is_lost_between_contracts_under_poll() {
    let chain = [
        echo_blocking,
        upper_evented,
        echo_concurrent,
        upper_blocking,
        echo_evented,
        upper_concurrent,
        // Two more, so that the contract changes every way there is.
        echo_evented,
        upper_blocking,
        echo_concurrent,
        upper_evented,
    ];
    check(&chain, "poll", PEERS);
}

#[test]
fn no_line_is_lost_between_contracts_under_threaded() {
    let chain = [
        echo_blocking,
        upper_concurrent,
        echo_concurrent,
        upper_blocking,
    ];
    check(&chain, "threaded", PEERS);
}

for_each_pair! {
    echo without sequential:
    every_line_is_answered_when_the_service_ends_between_swaps
}
/// A connection that is on the way to another version when the service ends is
/// served to its end.
fn every_line_is_answered_when_the_service_ends_between_swaps(echo: Guest, dispatch: &str) {
    let chain = [echo, echo.in_family("upper")];
    let controlled = start(echo, dispatch, &BY_LINE);
    let address = controlled.server.address();
    let mut peers: Vec<Peer> = (0..50)
        .map(|number| Peer::connect(address, number))
        .collect();
    // A peer that is only in the backlog would be served as well, but moves
    // nowhere.
    peers.iter_mut().for_each(Peer::speak);
    peers.iter_mut().for_each(Peer::listen);
    let done = AtomicBool::new(false);
    let (round, _rounds) = mpsc::channel();
    thread::scope(|scope| {
        let _flag = Flag(&done);
        for peers in peers.chunks_mut(25) {
            let (done, round) = (&done, round.clone());
            scope.spawn(move || talk(peers, done, &round));
        }
        let swapping = scope.spawn(|| {
            let mut swap = 0;
            loop {
                swap += 1;
                match controlled.try_swap(chain[swap % 2].builtin()) {
                    Ok(_) => {}
                    Err(why) => return why,
                }
            }
        });
        controlled.server.wait_for_version(5);
        controlled.server.terminate();
        let why = swapping.join().unwrap();
        assert!(
            why.contains("is draining and takes no new version"),
            "{why}"
        );
    });
    peers.iter_mut().for_each(Peer::conclude);
    peers.iter_mut().for_each(Peer::leave);
    let finished = controlled.server.finish();
    assert_eq!(finished.status.code(), Some(0));
    // One that found nobody to go to has stayed, and that is all.
    for alarm in finished.alarms() {
        assert_eq!(alarm.message(), format!("{STAYS}the service is ending"));
    }
    let last = finished.log.last().unwrap();
    assert_eq!(
        (last.number("handled"), last.number("failed")),
        (Some(50), Some(0))
    );
}
