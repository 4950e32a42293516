//! How many bytes a service has moved.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the bytes of all connections of a service.
#[derive(Default)]
pub(crate) struct Traffic {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Traffic {
    /// Counts bytes read from a peer.
    pub(crate) fn add_in(&self, count: usize) {
        self.bytes_in.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts bytes that the kernel has taken.
    pub(crate) fn add_out(&self, count: usize) {
        self.bytes_out.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Bytes read from peers.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes that the kernel has taken for peers.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }
}
