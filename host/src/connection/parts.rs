//! What lasts as long as a connection, whatever instances serve it one after another.

use super::ConnectionId;
use super::peer::Peer;
use super::permit::Permit;
use super::traffic::Traffic;
use super::writing::Output;
use crate::lifecycle::AtomicVersionNumber;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// What is a connection's own, and no instance's. A hand-over changes nothing of it.
pub(super) struct Parts {
    pub(super) id: ConnectionId,
    pub(super) peer: Peer,
    pub(super) socket: Arc<OwnedFd>,
    /// After the descriptor, for which it stands: it is given back when the descriptor
    /// is closed.
    _permit: Permit,
    /// Bytes that the kernel has not taken yet, and the state of the sending half.
    pub(super) output: Mutex<Output>,
    /// No read after `shutdown(receive)` or the end of file.
    pub(super) read_closed: AtomicBool,
    /// Why no read or write will succeed any more: the peer reset the connection, or
    /// the network lost it.
    pub(super) lost: OnceLock<Errno>,
    /// The last version that would not have it, if one was asked.
    pub(super) refused_by: AtomicVersionNumber,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    /// The sums of the service.
    pub(super) traffic: Arc<Traffic>,
}

impl Parts {
    /// Those of a new connection, which gets its number here.
    pub(super) fn new(socket: OwnedFd, peer: Peer, permit: Permit, traffic: Arc<Traffic>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            peer,
            socket: Arc::new(socket),
            _permit: permit,
            output: Mutex::default(),
            read_closed: AtomicBool::new(false),
            lost: OnceLock::new(),
            refused_by: AtomicVersionNumber::default(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            traffic,
        }
    }
}
