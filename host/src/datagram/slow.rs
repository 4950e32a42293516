//! The peers that do not read.

use crate::socket_name::SocketName;
use crate::sync::lock;
use std::collections::HashSet;
use std::sync::Mutex;

/// How many are remembered.
const MAX_SLOW: usize = 1024;

/// Peers on Unix sockets that have let all tries pass. Whoever sends does not wait for
/// them, whichever guest it was that waited in vain.
#[derive(Default)]
pub(super) struct Slow(Mutex<HashSet<SocketName>>);

impl Slow {
    pub(super) fn add(&self, peer: SocketName) {
        let mut slow = lock(&self.0);
        if slow.len() >= MAX_SLOW {
            slow.clear();
        }
        slow.insert(peer);
    }

    pub(super) fn contains(&self, peer: &SocketName) -> bool {
        lock(&self.0).contains(peer)
    }

    /// A datagram has reached a peer.
    pub(super) fn forget(&self, peer: &SocketName) {
        if matches!(peer, SocketName::Unix(_)) {
            lock(&self.0).remove(peer);
        }
    }
}
