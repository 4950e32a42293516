//! The integration tests: the real binary over loopback, as peers and operators
//! meet it.
//!
//! One file a subject; `harness` starts the binary and wraps its clients. What
//! all tests keep to:
//!
//! - Every listener is on port 0, and its address comes from the ready line.
//! - Every read, write and wait has a deadline ([`harness::PATIENCE`]), which is
//!   there to fail a test and not to time anything.
//! - Nothing sleeps to wait for something: a test waits for bytes, for a line of
//!   the log, or for an exit.
//! - What must not be in the log is looked for after the server has ended, when
//!   the log is complete.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

mod arguments;
mod cache;
mod cache_entries;
mod chat;
mod cli;
mod clients;
mod clocks;
mod control;
mod demo;
mod echo;
mod exhaustion;
mod faults;
mod hand_over;
mod hostile;
mod hostile_text;
mod imports;
mod input;
mod lifecycle;
mod many;
mod probe;
mod properties;
mod proposals;
mod readme;
mod refusals;
mod regressions;
mod room;
mod signals;
mod socket;
mod swap;
mod time;
mod transport;
mod unread;
mod wit;
