//! What the tests share: the server as a process, its log, its clients, and the
//! guests there are, with the dispatches that they run under.

pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod command;
pub(crate) mod components;
pub(crate) mod control;
pub(crate) mod ctime;
#[macro_use]
pub(crate) mod guests;
pub(crate) mod log;
#[macro_use]
pub(crate) mod pairs;
pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod python;
pub(crate) mod scratch;
pub(crate) mod server;
pub(crate) mod slow;
pub(crate) mod tools;
pub(crate) mod wasmtime;

pub(crate) use client::{Client, come_and_go};
pub(crate) use guests::Guest;
pub(crate) use server::{Serve, Server};

use std::time::Duration;

/// How long anything may take before the test fails: long for a loaded machine,
/// and no measure of speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes as a failed assertion should show them.
pub(crate) fn text(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().escape_ascii().to_string()
}

/// `count` bytes that repeat only after a long while, so that a lost, doubled or
/// moved piece is seen.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count.next_multiple_of(8));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}
