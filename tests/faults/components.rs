//! Components that do what no compiler would write: they cost their own
//! connections, and neither the service nor the next peer.

use crate::harness::Serve;
use crate::harness::components::{concurrent, evented_keeper};
use crate::harness::scratch::Scratch;

/// `task.return` with `ok`.
const RETURN_OK: &str = "(call $tret (i32.const 0) (i32.const 0) (i32.const 0))";

/// A connection is over when its `handle` has returned or its `close` was said,
/// whatever resources the guest keeps: more peers than there are permits come one
/// after another.
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
