//! How many datagrams a service has taken, sent and dropped.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the datagrams of a service.
#[derive(Debug, Default)]
pub(crate) struct Datagrams {
    pub(super) received: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) dropped_by_kernel: AtomicU64,
    pub(super) oversized: AtomicU64,
    pub(super) loops: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) unsent: AtomicU64,
}

/// Datagrams at one moment. Those that the kernel has dropped are known when the next
/// one has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct DatagramCounts {
    /// Datagrams that came, those that were dropped as oversized or as loops included.
    pub received: u64,
    /// Datagrams that the kernel has taken to be sent.
    pub sent: u64,
    /// Datagrams that the kernel has dropped, because the handler was too slow for them
    /// (SO_RXQ_OVFL).
    pub dropped_by_kernel: u64,
    /// Datagrams that were longer than the handler takes.
    pub oversized: u64,
    /// Datagrams from the port of a small service or from the service itself, which
    /// were dropped.
    pub loops: u64,
    /// Datagrams that the handler wanted to send to somebody whom it may not send to.
    pub refused: u64,
    /// Datagrams that the system did not send: the peer's socket was gone or took no
    /// more, or the network was not reachable.
    pub unsent: u64,
}

impl Datagrams {
    /// Reads all counters.
    pub(crate) fn counts(&self) -> DatagramCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DatagramCounts {
            received: get(&self.received),
            sent: get(&self.sent),
            dropped_by_kernel: get(&self.dropped_by_kernel),
            oversized: get(&self.oversized),
            loops: get(&self.loops),
            refused: get(&self.refused),
            unsent: get(&self.unsent),
        }
    }
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, count: usize) {
    if count > 0 {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}
