//! An accepted connection, as the host holds it.
//!
//! [`Connection`] is what both WASI versions and all dispatches share: reading,
//! writing, half-closing, readiness, and closing in order. Everything here is
//! non-blocking and byte for byte: what a read returned is gone from the socket
//! and nothing else is; what a write took is sent or, at the end, reported.
//!
//! It lives as long as the dispatch's entry for it and its closing. A guest's
//! resources do not keep it: when its handler is done they are dead.

pub(crate) mod attention;
mod closing;
mod interrupt;
mod reading;
pub(crate) mod register;
pub(crate) mod traffic;
mod writing;

use crate::connection::attention::Attention;
use crate::connection::register::register;
use crate::connection::traffic::Traffic;
use crate::lifecycle::{AtomicVersionNumber, VersionNumber};
use futures_util::task::AtomicWaker;
use rustix::io::Errno;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, watch};
use writing::Output;

/// The most bytes that one guest call may move, either way.
///
/// The same cap as wasmtime-wasi's: a guest cannot make the host allocate more.
pub(crate) const MAX_TRANSFER: usize = 64 * 1024;

/// Names a connection in the log and in the `evented` contract. Unique in the
/// process.
pub(crate) type ConnectionId = u64;

/// An accepted connection. See the module's documentation.
pub(crate) struct Connection {
    id: ConnectionId,
    peer: SocketAddr,
    registration: OnceLock<AsyncFd<Arc<OwnedFd>>>,
    socket: Arc<OwnedFd>,
    /// After the descriptor, for which it stands: whoever holds the connection
    /// holds both.
    _permit: OwnedSemaphorePermit,
    output: Mutex<Output>,
    /// No read after `shutdown(receive)` or the end of file.
    read_closed: AtomicBool,
    /// Why a read or a write has failed for good: the peer reset the connection,
    /// or the network lost it.
    lost: OnceLock<Errno>,
    /// Why the runtime's poller did not take it.
    unwaitable: OnceLock<Errno>,
    /// How many resources the guest holds: socket, input, output.
    guest_holds: AtomicU8,
    /// The handler is done: what the guest still holds is dead.
    over: AtomicBool,
    /// The guest's tasks that wait for input, and for room to write. The
    /// runtime's poller remembers the last waiter only, and that is the closing.
    reader: AtomicWaker,
    writer: AtomicWaker,
    /// Where to say that this connection needs the `evented` dispatch.
    attention: Mutex<Option<Arc<Attention>>>,
    /// Whether it has said so since it was last looked at: once is enough.
    asks: AtomicBool,
    /// Whether the guest knows that the connection is to be handed over.
    told: AtomicBool,
    /// The last version that would not have it, if one was asked.
    refused_by: AtomicVersionNumber,
    /// What interrupts a wait for input, or for room to write, once.
    interrupt: Mutex<Option<watch::Receiver<Option<VersionNumber>>>>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    traffic: Arc<Traffic>,
}

impl Connection {
    /// Takes over a connected, non-blocking socket, and gives the connection its
    /// number.
    pub(crate) fn new(
        socket: OwnedFd,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
        traffic: Arc<Traffic>,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            peer,
            socket: Arc::new(socket),
            _permit: permit,
            registration: OnceLock::new(),
            output: Mutex::default(),
            read_closed: AtomicBool::new(false),
            lost: OnceLock::new(),
            unwaitable: OnceLock::new(),
            guest_holds: AtomicU8::new(0),
            over: AtomicBool::new(false),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            attention: Mutex::default(),
            asks: AtomicBool::new(false),
            told: AtomicBool::new(false),
            refused_by: AtomicVersionNumber::default(),
            interrupt: Mutex::default(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            traffic,
        })
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(rustix::net::getsockname(&self.socket)?.try_into()?)
    }

    /// Whether a read or a write has failed for good, which no handler causes.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.get().is_some()
    }

    /// Bytes read from the peer so far.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes that the kernel has taken so far.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Counts a resource that the guest holds on this connection.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        self.guest_holds.fetch_add(1, Ordering::Relaxed);
        Held(Arc::downgrade(self))
    }

    /// Ends what the guest can do with it: its resources are dead from now on, and
    /// its tasks that wait are told.
    pub(crate) fn take_from_guest(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.reader.wake();
        self.writer.wake();
    }

    /// Whether the guest has dropped every resource on this connection.
    pub(crate) fn is_released(&self) -> bool {
        self.guest_holds.load(Ordering::Relaxed) == 0
    }

    /// Where this connection asks for attention from now on.
    pub(crate) fn set_attention(&self, attention: Arc<Attention>) {
        *self.attention() = Some(attention);
    }

    /// Has the `evented` dispatch look at this connection again.
    pub(crate) fn ask_for_attention(&self) {
        if let Some(attention) = &*self.attention()
            && !self.asks.swap(true, Ordering::Relaxed)
        {
            attention.ask(self.id);
        }
    }

    /// The dispatch is looking at it; what comes from now on is to be asked again.
    pub(crate) fn attention_is_given(&self) {
        self.asks.store(false, Ordering::Relaxed);
    }

    fn attention(&self) -> MutexGuard<'_, Option<Arc<Attention>>> {
        self.attention
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The place in the runtime's poller, taken at the first wait: a connection
    /// that never waits, and one that the `evented` dispatch watches itself,
    /// never needs one.
    fn registration(&self) -> io::Result<&AsyncFd<Arc<OwnedFd>>> {
        if let Some(registration) = self.registration.get() {
            return Ok(registration);
        }
        let registration = register(Arc::clone(&self.socket))?;
        Ok(self.registration.get_or_init(|| registration))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A guest's hold on a connection; dropped with the resource that has it.
///
/// It does not keep the connection: descriptor and permit are back when the host
/// has closed it, whatever resources the guest forgets to drop.
pub(crate) struct Held(Weak<Connection>);

impl Held {
    /// The connection, unless its handler is done.
    pub(crate) fn get(&self) -> Option<Arc<Connection>> {
        let connection = self.0.upgrade()?;
        (!connection.over.load(Ordering::Relaxed)).then_some(connection)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.0.upgrade()
            && connection.guest_holds.fetch_sub(1, Ordering::Relaxed) == 1
        {
            connection.ask_for_attention();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use tokio::sync::Semaphore;

    /// A connection, and its peer.
    pub(crate) fn connection() -> (Arc<Connection>, UnixStream) {
        let (socket, peer) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let address = ([127, 0, 0, 1], 1).into();
        let socket = OwnedFd::from(socket);
        let connection = Connection::new(socket, address, permit, Arc::default());
        (connection, peer)
    }
}
