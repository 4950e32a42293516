//! Faults where each connection has an instance to itself: nobody else notices.

use super::{Death, ERROR, HOG, SPIN, TRAP, TRAP_OPEN, TRIGGER, check_only_alarm, saying, serve};
use crate::harness::Guest;

/// A fault on one connection: it gets end of file, another one goes on, the next
/// one is served, and the log says it once.
#[track_caller]
fn check(guest: Guest, dispatch: &str, death: &Death) {
    let server = serve(guest, dispatch, death.mode, 2)
        .args(death.options)
        .start();
    // Under `sequential` there is nobody else.
    let mut healthy = (dispatch != "sequential").then(|| {
        let mut healthy = server.connect();
        healthy.check_echo("before");
        healthy
    });
    let mut faulty = server.connect();
    faulty.check_echo("still well");
    let number = server.wait_for_open(&faulty).connection();
    let peer = faulty.local().to_string();
    faulty.send(TRIGGER);
    faulty.expect_eof();
    drop(faulty);
    if let Some(healthy) = &mut healthy {
        healthy.check_echo("after");
    }
    // Three more, each with the permit of the one before.
    for _ in 0..3 {
        server.connect().check_echo("next");
    }
    drop(healthy);
    check_only_alarm(&server.stop(), number, &peer, death.reason);
}

for_each_pair! { faults isolated: a_trap_ends_one_connection }
fn a_trap_ends_one_connection(guest: Guest, dispatch: &str) {
    check(guest, dispatch, &TRAP);
}

for_each_pair! { faults isolated: a_spin_past_the_deadline_ends_one_connection }
fn a_spin_past_the_deadline_ends_one_connection(guest: Guest, dispatch: &str) {
    check(guest, dispatch, &SPIN);
}

for_each_pair! { faults isolated: memory_past_the_limit_ends_one_connection }
fn memory_past_the_limit_ends_one_connection(guest: Guest, dispatch: &str) {
    check(guest, dispatch, &HOG);
}

for_each_pair! { faults isolated: an_error_ends_one_connection }
fn an_error_ends_one_connection(guest: Guest, dispatch: &str) {
    let death = Death {
        mode: "MODE=err",
        reason: ERROR,
        ..TRAP
    };
    check(guest, dispatch, &death);
}

for_each_pair! { faults isolated: a_trap_at_the_start_is_told_each_time }
/// Every connection dies, with a single permit among them.
fn a_trap_at_the_start_is_told_each_time(guest: Guest, dispatch: &str) {
    let server = serve(guest, dispatch, TRAP_OPEN.mode, 1).start();
    for _ in 0..5 {
        server.connect().expect_eof();
    }
    let finished = server.stop();
    let told: Vec<_> = saying(&finished.log, TRAP_OPEN.reason)
        .iter()
        .map(|event| event.connection())
        .collect();
    assert_eq!(told, [1, 2, 3, 4, 5].map(Some));
}

for_each_pair! { faults isolated without sequential: a_spinning_guest_shares_the_thread }
/// One that computes for ever does not keep the only thread from the others.
fn a_spinning_guest_shares_the_thread(guest: Guest, dispatch: &str) {
    let server = serve(guest, dispatch, SPIN.mode, 10)
        .args(if dispatch == "threaded" {
            &["--workers", "1"][..]
        } else {
            &[]
        })
        .args(["--deadline", "1h", "--drain-timeout", "1ms"])
        .start();
    let mut healthy = server.connect();
    healthy.check_echo("before");
    let mut faulty = server.connect();
    faulty.check_echo("still well");
    faulty.send(TRIGGER);
    healthy.check_echo("meanwhile");
    server.connect().check_echo("newcomer");
    // It spins to the end, and does not hold that up either.
    server.stop();
}
