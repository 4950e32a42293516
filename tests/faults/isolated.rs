//! Faults where each connection has an instance to itself: nobody else notices.

use super::{Death, FAULTS, HOG, SPIN, TRAP, TRAP_OPEN, TRIGGER, saying, serve};
use crate::harness::Guest;
use crate::harness::guests::pairs;

/// The guests and dispatches with an instance for each connection.
fn isolated() -> impl Iterator<Item = (Guest, &'static str)> {
    pairs(&FAULTS).filter(|(guest, dispatch)| !guest.shares_instance(dispatch))
}

/// A fault on one connection: it gets end of file, another one goes on, the next
/// one is served, and the log says it once.
#[track_caller]
fn check(death: &Death, reason: &str) {
    for (guest, dispatch) in isolated() {
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
        let finished = server.stop();
        let alarms = finished.alarms();
        assert_eq!(alarms.len(), 1, "{alarms:#?}");
        assert_eq!(alarms[0].message(), format!("connection failed: {reason}"));
        assert_eq!(alarms[0].connection(), number);
        assert_eq!(alarms[0].str("peer"), peer);
        assert_eq!(alarms[0].str("fault"), "guest");
    }
}

#[test]
fn a_trap_ends_one_connection() {
    check(&TRAP, TRAP.reason);
}

#[test]
fn a_spin_past_the_deadline_ends_one_connection() {
    check(&SPIN, SPIN.reason);
}

#[test]
fn memory_past_the_limit_ends_one_connection() {
    check(&HOG, HOG.reason);
}

#[test]
fn an_error_ends_one_connection() {
    let death = Death {
        mode: "MODE=err",
        ..TRAP
    };
    check(&death, "the handler returned an error: deliberate failure");
}

/// Every connection dies, with a single permit among them.
#[test]
fn a_trap_at_the_start_is_told_each_time() {
    for (guest, dispatch) in isolated() {
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
}

/// One that computes for ever does not keep the only thread from the others.
#[test]
fn a_spinning_guest_shares_the_thread() {
    for (guest, dispatch) in isolated() {
        if dispatch == "sequential" {
            continue;
        }
        let server = serve(guest, dispatch, SPIN.mode, 10)
            .args([
                "--workers",
                "1",
                "--deadline",
                "1h",
                "--drain-timeout",
                "1ms",
            ])
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
}
