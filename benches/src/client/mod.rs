//! The clients: one thread, one epoll descriptor, buffers that are used again. Every byte
//! that comes back is compared with what was sent.
//!
//! A client is no faster than the system calls that it makes: one to send and one to
//! receive per operation, and a share of an `epoll_wait`. A native server makes the same
//! ones, so where messages are small the client is the limit as often as the server.

pub(crate) mod chat;
pub(crate) mod connecting;
pub(crate) mod datagrams;
pub(crate) mod events;
pub(crate) mod pattern;
pub(crate) mod ping_pong;
pub(crate) mod socket;
pub(crate) mod streaming;

use std::time::Duration;

/// What a client has done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// How many operations were finished.
    pub(crate) operations: u64,
    /// How long they took all together, with those that were under way at the end.
    pub(crate) elapsed: Duration,
    /// How many datagrams were lost, and sent again.
    pub(crate) lost: u64,
}
