//! Guests that misbehave: what it costs, whom it costs, and what the log says.
//!
//! Every one of them must cost no more than its own connections. That a permit
//! is back is shown by a limit that makes the next peer wait for it.

mod components;
mod grants;
mod isolated;
mod misc;
mod misuse;
mod shared;

use crate::harness::log::Event;
use crate::harness::server::Finished;
use crate::harness::{Guest, Serve};

/// What makes a guest misbehave.
const TRIGGER: &str = "fault\n";

/// A fault that kills its instance.
struct Death {
    mode: &'static str,
    /// What the server is told so that it ends soon.
    options: &'static [&'static str],
    /// How the log calls it.
    reason: &'static str,
}

const TRAP: Death = Death {
    mode: "MODE=trap",
    options: &[],
    reason: "the guest trapped: wasm trap: wasm `unreachable` instruction executed",
};

const TRAP_OPEN: Death = Death {
    mode: "MODE=trap-open",
    ..TRAP
};

const SPIN: Death = Death {
    mode: "MODE=spin",
    options: &["--deadline", "200ms"],
    reason: "the guest trapped: no wait within the deadline of 200ms",
};

const HOG: Death = Death {
    mode: "MODE=hog",
    options: &["--max-memory", "8MiB"],
    reason: "the guest trapped: memory past the limit of 8388608 bytes",
};

const BLOCK: Death = Death {
    mode: "MODE=block",
    ..SPIN
};

/// How the log calls what a handler returns, or tells with `fail`, in `MODE=err`.
const ERROR: &str = "the handler returned an error: deliberate failure";

fn serve(guest: Guest, dispatch: &str, mode: &str, max_connections: u32) -> Serve {
    Serve::guest(guest, dispatch)
        .compiled_once()
        .env(mode)
        .args(["--max-connections", &max_connections.to_string()])
}

/// The events of a log that say this.
fn saying<'a>(log: &'a [Event], part: &str) -> Vec<&'a Event> {
    log.iter()
        .filter(|event| event.message().contains(part))
        .collect()
}

/// The log has one alarm: this connection failed, for this reason, by the guest's
/// fault.
#[track_caller]
fn check_only_alarm(finished: &Finished, connection: Option<u64>, peer: &str, reason: &str) {
    let alarms = finished.alarms();
    assert_eq!(alarms.len(), 1, "{alarms:#?}");
    assert_eq!(alarms[0].message(), format!("connection failed: {reason}"));
    assert_eq!(alarms[0].connection(), connection);
    assert_eq!(alarms[0].str("peer"), peer);
    assert_eq!(alarms[0].str("fault"), "guest");
}
