//! What lasts as long as a connection, also when several instances serve it one after
//! another.

use super::peer::Peer;
use super::permit::Permit;
use super::roll::{Enrolled, Roll};
use super::writing::Output;
use crate::lifecycle::AtomicVersionNumber;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// The part of a connection that belongs to no instance. A hand-over does not change
/// it.
pub(super) struct Parts {
    /// The name of the service that accepted it.
    pub(super) service: Arc<str>,
    pub(super) socket: Arc<OwnedFd>,
    /// Declared after the socket, so that the permit is given back after the descriptor
    /// is closed.
    _permit: Permit,
    /// Bytes that the kernel has not taken yet, and the state of the sending half.
    pub(super) output: Mutex<Output>,
    /// Set after `shutdown(receive)` or the end of file: there are no more reads.
    pub(super) read_closed: AtomicBool,
    /// Set when a read has met the end of file.
    pub(super) has_ended: AtomicBool,
    /// Why no read and no write can succeed any more: the peer reset the connection, or
    /// the network lost it.
    pub(super) lost: OnceLock<Errno>,
    /// The latest version that the connection could not go to: that version refused the
    /// connection, or the old one did not give it up. `None` before that.
    pub(super) refused_by: AtomicVersionNumber,
    /// What others may know of it: its number, its peer, its bytes.
    pub(super) enrolled: Enrolled,
}

impl Parts {
    /// Makes the parts of a new connection, and numbers it.
    pub(super) fn new(
        service: &Arc<str>,
        socket: OwnedFd,
        peer: Peer,
        permit: Permit,
        roll: &Arc<Roll>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            service: Arc::clone(service),
            socket: Arc::new(socket),
            _permit: permit,
            output: Mutex::default(),
            read_closed: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            lost: OnceLock::new(),
            refused_by: AtomicVersionNumber::default(),
            enrolled: Enrolled::new(roll, NEXT.fetch_add(1, Ordering::Relaxed), peer),
        }
    }
}
