//! What a connection has to do with the instance that serves it.

use super::attention::Attention;
use crate::lifecycle::VersionNumber;
use futures_util::task::AtomicWaker;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

/// What belongs to one instance's time with a connection. The next instance begins
/// with an empty one.
#[derive(Default)]
pub(super) struct Session {
    /// The place in the runtime's poller, once something has waited.
    pub(super) registration: OnceLock<AsyncFd<Arc<OwnedFd>>>,
    /// Why the runtime's poller did not take it.
    pub(super) unwaitable: OnceLock<Errno>,
    /// How many resources the guest holds: socket, input, output.
    pub(super) guest_holds: AtomicU8,
    /// The handler is done: what the guest still holds is dead.
    pub(super) over: AtomicBool,
    /// The guest's tasks that wait for input, and for room to write. The runtime's
    /// poller remembers only the last task that waits, and that is the closing.
    pub(super) reader: AtomicWaker,
    pub(super) writer: AtomicWaker,
    /// Where to say that this connection needs the `evented` dispatch.
    pub(super) attention: Mutex<Option<Arc<Attention>>>,
    /// Whether it has said so since the dispatch last looked: once is enough.
    pub(super) asks: AtomicBool,
    /// Whether the guest knows that the connection is to be handed over.
    pub(super) told: AtomicBool,
    /// What interrupts a wait for input, or for room to write, once.
    pub(super) interrupt: Mutex<Option<watch::Receiver<Option<VersionNumber>>>>,
}
