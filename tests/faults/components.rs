//! Components that do what no compiler would write: they cost their own
//! connections, and neither the service nor the next peer. They are not guests, so
//! there are no pairs of them; a test goes through the dispatches itself.

use std::path::Path;

use crate::harness::components::{concurrent, evented_keeper};
use crate::harness::control::Controlled;
use crate::harness::scratch::Scratch;
use crate::harness::{Guest, Serve, Server};

/// `task.return` with `ok`.
const RETURN_OK: &str = "(call $tret (i32.const 0) (i32.const 0) (i32.const 0))";

/// A connection is over when its `handle` has returned or its `close` was said,
/// whatever resources the guest keeps: more peers than there are permits come one
/// after another.
// From: case 61.
#[test]
fn a_finished_connection_is_closed_whatever_the_guest_keeps() {
    let scratch = Scratch::new();
    let handle = format!("{RETURN_OK} (i32.const 0)");
    let keepers = [
        concurrent(&scratch, "keeper_concurrent", &handle, "(i32.const 0)"),
        evented_keeper(&scratch),
    ];
    for keeper in keepers {
        println!("{}", keeper.display());
        let server = Serve::component(&keeper)
            .args(["--dispatch", "poll", "--max-connections", "2"])
            .start();
        for _ in 0..6 {
            server.connect().expect_eof();
        }
        server.stop().check_no_alarm();
    }
}

/// Cancels the read of a stream whose other end is read by the host: a panic of
/// wasmtime 48.0.8 (GHSA-xrvr-8678-5wp8).
const CANCEL_WRONG_END: &str = "
    (i32.store (i32.const 800) (call $wsnew))
    (i64.store (i32.const 2048) (call $snew))
    (drop (call $swra (i32.load (i32.const 2052)) (i32.const 1024) (i32.const 5)))
    (drop (call $scrs (i32.load (i32.const 2052))))
    (drop (call $send (local.get $sock) (i32.load (i32.const 2052))))
    (drop (call $srda (i32.load (i32.const 2048)) (i32.const 1024) (i32.const 20)))
    (i32.const 1)";

fn serve(component: &Path, dispatch: &str, options: &[&str]) -> Server {
    println!("{} under {dispatch}", component.display());
    Serve::component(component)
        .args(["--dispatch", dispatch])
        .args(options)
        .start()
}

/// A panic of the host in a call of a guest costs that instance: it is counted, the
/// log has one line for it and no backtrace, and the next peer is let in.
// From: case 62; review of 2026-11-25, 3.2.
#[test]
fn a_panic_below_a_call_costs_its_instance() {
    let scratch = Scratch::new();
    let callback = format!("{RETURN_OK} (i32.const 0)");
    let component = concurrent(&scratch, "panic_concurrent", CANCEL_WRONG_END, &callback);
    for dispatch in ["sequential", "threaded", "poll"] {
        let server = serve(&component, dispatch, &["--max-connections", "1"]);
        for _ in 0..3 {
            server.connect().expect_eof();
        }
        let finished = server.stop();
        let alarms = finished.alarms();
        assert_eq!(alarms.len(), 3, "{alarms:#?}");
        for alarm in alarms {
            assert!(
                alarm.message().contains("the host panicked: "),
                "{alarm:#?}"
            );
            assert!(!alarm.message().contains('\n'), "{alarm:#?}");
            assert_eq!(alarm.str("fault"), "host");
        }
        let last = finished.log.last().unwrap();
        let counts = ["accepted", "handled", "failed"];
        assert_eq!(counts.map(|field| last.number(field).unwrap()), [3, 0, 3]);
    }
}

for_each_pair! {
    echo [concurrent_threaded, concurrent_poll]:
    a_version_that_makes_the_host_panic_is_taken_back
}
/// The rollback rule sees those panics, and the peers of the version before go on.
// From: case 62.
fn a_version_that_makes_the_host_panic_is_taken_back(guest: Guest, dispatch: &str) {
    let scratch = Scratch::new();
    let callback = format!("{RETURN_OK} (i32.const 0)");
    let component = concurrent(&scratch, "panic_concurrent", CANCEL_WRONG_END, &callback);
    let options = ["--rollback-least", "2", "--rollback-window", "1h"];
    let controlled = Controlled::start(guest, dispatch, &options);
    controlled.swap(&component, &[]);
    for _ in 0..2 {
        controlled.server.connect().expect_eof();
    }
    controlled.server.wait_for_version(3);
    controlled.server.connect().check_echo("as before\n");
    let status = controlled.status();
    assert_eq!(status["failed"]["panic"], 2, "{status}");
}

/// A yield is no wait: a guest that only yields is ended at its deadline, whether its
/// call goes on or has returned.
// From: case 63.
#[test]
fn a_guest_that_yields_for_ever_is_ended() {
    let scratch = Scratch::new();
    let forever = concurrent(
        &scratch,
        "forever_concurrent",
        "(i32.const 1)",
        "(i32.const 1)",
    );
    let options = ["--deadline", "200ms", "--max-connections", "1"];
    for dispatch in ["sequential", "threaded", "poll"] {
        let server = serve(&forever, dispatch, &options);
        for _ in 0..2 {
            server.connect().expect_eof();
        }
        let finished = server.stop();
        let alarms = finished.alarms();
        assert_eq!(alarms.len(), 2, "{alarms:#?}");
        for alarm in alarms {
            let reason = "the guest trapped: no wait within the deadline of 200ms";
            assert!(alarm.message().ends_with(reason), "{alarm:#?}");
        }
    }
    // The connection is over when the call has returned, and the task goes on.
    let handle = format!("(call $sdrop (local.get $sock)) {RETURN_OK} (i32.const 1)");
    let after = concurrent(&scratch, "after_concurrent", &handle, "(i32.const 1)");
    let server = serve(&after, "poll", &options);
    server.connect().expect_eof();
    let death = server.wait_for_log("the end of the instance", |event| {
        event.message().starts_with("instance died")
    });
    assert_eq!(death.number("connections"), Some(0));
    server.connect().expect_eof();
    server.stop();
}

/// A task that never ends and never runs takes no more of the host than its instance
/// may have: the instance is replaced when wasmtime's table is full.
#[test]
fn tasks_that_never_end_are_bounded() {
    let scratch = Scratch::new();
    // It waits for a set of nothing: code 2, with the set in the upper bits.
    let handle =
        format!("{RETURN_OK} (i32.or (i32.const 2) (i32.shl (call $wsnew) (i32.const 4)))");
    let waiting = concurrent(&scratch, "waiting_concurrent", &handle, "(i32.const 0)");
    let server = serve(&waiting, "poll", &["--max-connections", "1"]);
    // Each leaves a task; the table has room for some thousands of entries.
    for _ in 0..4000 {
        server.connect().drain();
    }
    let finished = server.stop();
    let died = finished.alarms();
    assert!(!died.is_empty(), "it was never replaced");
    for death in died {
        assert!(death.message().starts_with("instance died"), "{death:#?}");
    }
}
