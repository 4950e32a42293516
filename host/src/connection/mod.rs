//! An accepted connection, as the host holds it.
//!
//! [`Connection`] is what both WASI versions and all dispatches share: reading,
//! writing, half-closing, readiness, and closing in order. Everything here is
//! non-blocking and byte for byte: what a read returned is gone from the socket
//! and nothing else is; what a write took is sent or, at the end, reported.
//!
//! It lives as long as the dispatch's entry for it and its closing. A guest's
//! resources do not keep it: when its handler is done they are dead.
//!
//! It needs a connected stream socket and a peer, and knows nothing of the transport.
//!
//! | file | |
//! | --- | --- |
//! | `parts` | what lasts as long as the connection: socket, output, sums |
//! | `session` | what lasts as long as the instance that serves it |
//! | `peer` | the other side |
//! | `permit` | the place that the connection takes |
//! | `reading`, `writing`, `closing` | the bytes, and the end of them |
//! | `interrupt` | the question whether it is to be handed over |
//! | `attention` | how it asks the `evented` dispatch to look at it |
//! | `register` | the runtime's poller |
//! | `traffic` | the bytes of all connections of a service |

pub(crate) mod attention;
mod closing;
mod interrupt;
mod parts;
pub(crate) mod peer;
pub(crate) mod permit;
mod reading;
pub(crate) mod register;
mod session;
pub(crate) mod traffic;
mod writing;

use crate::sync::lock;
use attention::Attention;
use parts::Parts;
use peer::Peer;
use permit::Permit;
use register::register;
use session::Session;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, Weak};
use tokio::io::unix::AsyncFd;
use traffic::Traffic;

/// The most bytes that one guest call may move, either way.
///
/// The same cap as wasmtime-wasi's: a guest cannot make the host allocate more.
pub(crate) const MAX_TRANSFER: usize = 64 * 1024;

/// Names a connection in the log and in the `evented` contract. Unique in the
/// process.
pub(crate) type ConnectionId = u64;

/// An accepted connection. See the module's documentation.
pub(crate) struct Connection {
    // In this order: the poller lets go of the descriptor before it is closed.
    session: Session,
    parts: Parts,
}

impl Connection {
    /// Takes over a connected, non-blocking socket, and gives the connection its
    /// number.
    pub(crate) fn new(
        socket: OwnedFd,
        peer: Peer,
        permit: Permit,
        traffic: Arc<Traffic>,
    ) -> Arc<Self> {
        Arc::new(Self {
            session: Session::default(),
            parts: Parts::new(socket, peer, permit, traffic),
        })
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.parts.id
    }

    pub(crate) fn peer(&self) -> Peer {
        self.parts.peer
    }

    /// The address that the peer has connected to, if it is an Internet address.
    pub(crate) fn local_ip(&self) -> io::Result<Option<SocketAddr>> {
        let address = rustix::net::getsockname(&self.parts.socket)?;
        Ok(address.try_into().ok())
    }

    /// Whether a read or a write has failed for good, which no handler causes.
    pub(crate) fn is_lost(&self) -> bool {
        self.parts.lost.get().is_some()
    }

    /// Bytes read from the peer so far.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.parts.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes that the kernel has taken so far.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.parts.bytes_out.load(Ordering::Relaxed)
    }

    /// Counts a resource that the guest holds on this connection.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        self.session.guest_holds.fetch_add(1, Ordering::Relaxed);
        Held(Arc::downgrade(self))
    }

    /// Ends what the guest can do with it: its resources are dead from now on, and
    /// its tasks that wait are told.
    pub(crate) fn take_from_guest(&self) {
        self.session.over.store(true, Ordering::Relaxed);
        self.session.reader.wake();
        self.session.writer.wake();
    }

    /// Whether the guest has dropped every resource on this connection.
    pub(crate) fn is_released(&self) -> bool {
        self.session.guest_holds.load(Ordering::Relaxed) == 0
    }

    /// Where this connection asks for attention from now on.
    pub(crate) fn set_attention(&self, attention: Arc<Attention>) {
        *self.attention() = Some(attention);
    }

    /// Has the `evented` dispatch look at this connection again.
    pub(crate) fn ask_for_attention(&self) {
        if let Some(attention) = &*self.attention()
            && !self.session.asks.swap(true, Ordering::Relaxed)
        {
            attention.ask(self.parts.id);
        }
    }

    /// The dispatch is looking at it; what comes from now on is to be asked again.
    pub(crate) fn attention_is_given(&self) {
        self.session.asks.store(false, Ordering::Relaxed);
    }

    fn attention(&self) -> MutexGuard<'_, Option<Arc<Attention>>> {
        lock(&self.session.attention)
    }

    /// The place in the runtime's poller, taken at the first wait: a connection
    /// that never waits, and one that the `evented` dispatch watches itself,
    /// never needs one.
    fn registration(&self) -> io::Result<&AsyncFd<Arc<OwnedFd>>> {
        if let Some(registration) = self.session.registration.get() {
            return Ok(registration);
        }
        let registration = register(Arc::clone(&self.parts.socket))?;
        Ok(self.session.registration.get_or_init(|| registration))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.parts.socket.as_fd()
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
        (!connection.session.over.load(Ordering::Relaxed)).then_some(connection)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(connection) = self.0.upgrade()
            && connection
                .session
                .guest_holds
                .fetch_sub(1, Ordering::Relaxed)
                == 1
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
        let address = Peer::Ip(([127, 0, 0, 1], 1).into());
        let socket = OwnedFd::from(socket);
        let connection = Connection::new(socket, address, permit.into(), Arc::default());
        (connection, peer)
    }
}
