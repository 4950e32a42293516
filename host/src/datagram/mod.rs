//! Datagrams, as the host holds them: sockets that take and send them in batches, who
//! may be answered, and what is counted.
//!
//! A datagram is received whole or not at all. The host keeps those of one batch, until
//! the guest's call for it has ended.
//!
//! | file | |
//! | --- | --- |
//! | `address` | the two ends of a datagram |
//! | `socket`, `sending` | the sockets, which receive and send |
//! | `network`, `local` | how UDP and Unix sockets do that |
//! | `batch` | the datagrams that one call receives |
//! | `answers` | who may be sent what |
//! | `outbox` | datagrams on their way out |
//! | `slow` | the peers that do not read |
//! | `counts` | how many datagrams came, went and were dropped |

pub(crate) mod address;
mod answers;
pub(crate) mod batch;
pub(crate) mod counts;
mod local;
mod network;
pub(crate) mod outbox;
mod sending;
mod slow;
pub(crate) mod socket;

/// The most datagrams of one batch. The contract says so.
pub(crate) const MAX_BATCH: usize = 64;

/// The most bytes that a datagram can have here. Over UDP there are at most 65 527.
pub(crate) const MAX_DATA: usize = 65_535;

/// The most datagrams that one call may send. The contract says so.
pub(crate) const MAX_ANSWERS: usize = 1024;
