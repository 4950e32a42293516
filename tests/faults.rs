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

use crate::harness::guests::{faults_blocking, faults_concurrent, faults_evented};
use crate::harness::log::Event;
use crate::harness::{Guest, Serve};

const FAULTS: [Guest; 3] = [faults_blocking, faults_evented, faults_concurrent];

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

fn serve(guest: Guest, dispatch: &str, mode: &str, max_connections: u32) -> Serve {
    println!("{mode}: {} under {dispatch}", guest.name);
    Serve::guest(guest, dispatch)
        .env(mode)
        .args(["--max-connections", &max_connections.to_string()])
}

/// The events of a log that say this.
fn saying<'a>(log: &'a [Event], part: &str) -> Vec<&'a Event> {
    log.iter()
        .filter(|event| event.message().contains(part))
        .collect()
}
