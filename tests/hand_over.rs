//! Live connections that go on while versions change.
//!
//! | file | |
//! | --- | --- |
//! | `lines` | hundreds of peers that talk while a hundred versions come and go |
//! | `streams` | megabytes on their way, and output that nobody takes |
//! | `room` | a chat room, which goes as a whole |
//! | `rolling` | many connections, which go in groups |
//! | `states` | what was half read before is finished after |
//! | `refused` | new versions that do not take a connection |
//! | `kept` | old versions that do not give one up |
//! | `options` | `--old` and `--drain-timeout` |
//! | `peer`, `noise` | the peer that talks in `lines`, and what goes over `streams` |

mod kept;
mod lines;
mod noise;
mod options;
mod peer;
mod refused;
mod rolling;
mod room;
mod states;
mod streams;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::control::Controlled;
use crate::harness::server::CACHE;
use crate::harness::{Client, Guest, Server};

/// Past the patience of a test, so that no timeout helps.
const NEVER: &str = "1h";

/// How the log begins about a connection that was refused.
const STAYS: &str = "connection not handed over, it goes on where it was: ";

/// Starts a guest that drains for as long as it takes. It knows all components
/// of earlier runs, so that it swaps as fast as it can hand over.
#[track_caller]
fn start(guest: Guest, dispatch: &str, options: &[&str]) -> Controlled {
    let all = [&["--drain-timeout", NEVER, "--cache", CACHE], options].concat();
    Controlled::start(guest, dispatch, &all)
}

/// Raised when it is dropped, also by a test that fails: threads that go on until
/// it is raised would otherwise never end.
struct Flag<'a>(&'a AtomicBool);

impl Drop for Flag<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until the log has said of a connection that it was refused for this.
#[track_caller]
fn wait_for_refusal(server: &Server, client: &Client, reason: &str) {
    let connection = server.wait_for_open(client).connection();
    server.wait_for_log(reason, |event| {
        let why = event.message().strip_prefix(STAYS);
        event.connection() == connection && why.is_some_and(|why| why.starts_with(reason))
    });
}

/// Two builds of a guest.
fn builds(controlled: &Controlled, guest: Guest) -> [String; 2] {
    [1, 2].map(|number| {
        let path = controlled.scratch.build(guest, number);
        path.to_str().unwrap().to_owned()
    })
}
