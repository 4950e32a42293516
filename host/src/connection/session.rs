//! What a connection keeps for the instance that serves it.

use super::attention::Attention;
use super::notice::Notice;
use futures_util::task::AtomicWaker;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::io::unix::AsyncFd;

/// The part of a connection that belongs to the instance that serves it now. The next
/// instance begins with an empty session.
#[derive(Default)]
pub(super) struct Session {
    /// The registration with the runtime's poller. Empty until something waits.
    pub(super) registration: OnceLock<AsyncFd<Arc<OwnedFd>>>,
    /// Why the runtime's poller refused the socket. Empty if it did not.
    pub(super) unwaitable: OnceLock<Errno>,
    /// Whether there may be something to read: the poller of the `evented` dispatch has said
    /// so, and no read has found less than it had room for since. Others do not ask.
    pub(super) has_input: AtomicBool,
    /// Whether a read may stop short of what is there, of which that poller says nothing
    /// more: it has seen an urgent byte, or the end of the input.
    pub(super) has_marks: AtomicBool,
    /// How many more reads have a buffer of their own: the peer has sent much at once.
    pub(super) own_buffers: AtomicU8,
    /// How many resources the guest holds: socket, input, output.
    pub(super) guest_holds: AtomicU8,
    /// Set when the handler is done: resources that the guest still holds are dead.
    pub(super) over: AtomicBool,
    /// The guest's task that waits for input. Kept because the runtime's poller
    /// remembers only the last task that waits: when the connection closes, that is the
    /// closing task.
    pub(super) reader: AtomicWaker,
    /// The guest's task that waits for room to write, for the same reason.
    pub(super) writer: AtomicWaker,
    /// The list in which this connection asks the `evented` dispatch for attention.
    /// `None` under other dispatches.
    pub(super) attention: Mutex<Option<Arc<Attention>>>,
    /// Whether the connection has asked since the dispatch last looked: it asks once
    /// only.
    pub(super) asks: AtomicBool,
    /// Whether the guest has been told that the connection is to be handed over.
    pub(super) told: AtomicBool,
    /// How the guest is told.
    pub(super) notice: Arc<Notice>,
    /// Whether that interrupts a wait for input, or for room to write, once.
    pub(super) interrupts: AtomicBool,
}
