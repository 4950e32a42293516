//! An accepted connection, as the host holds it.
//!
//! [`Connection`] is what both WASI versions and all dispatches share: reading,
//! writing, half-closing, readiness, and closing in order. Nothing here blocks, and
//! nothing reads ahead: a read takes exactly the bytes that it returns from the socket.
//! Bytes that a write took are sent; if that fails, the failure is reported.
//!
//! A connection lives until the dispatch has removed its entry and has closed the
//! connection. A guest's resources do not keep it alive: they are dead when the handler
//! is done.
//!
//! A connection needs a connected stream socket and a peer, and knows nothing of the
//! transport.
//!
//! | file | |
//! | --- | --- |
//! | `parts` | what lasts as long as the connection: socket, output, sums |
//! | `session` | what lasts as long as the instance that serves the connection |
//! | `peer` | the other side |
//! | `permit` | the connection's place among `--max-connections` |
//! | `reading`, `writing`, `closing` | the bytes, and their end |
//! | `interrupt` | whether the connection is to be handed over |
//! | `notice` | how its guest learns that |
//! | `attention` | how a connection asks the `evented` dispatch to look at it |
//! | `register` | the runtime's poller, and the transfers that it allows |
//! | `record` | what others may know of a connection, and how they end it |
//! | `roll` | the open connections of a service |
//! | `traffic` | the bytes of all connections of a service |

pub(crate) mod attention;
mod closing;
mod interrupt;
pub(crate) mod notice;
mod parts;
pub(crate) mod peer;
pub(crate) mod permit;
mod reading;
pub(crate) mod record;
pub(crate) mod register;
pub(crate) mod roll;
mod session;
pub(crate) mod traffic;
mod writing;

use crate::socket_name::SocketName;
use crate::sync::lock;
use attention::Attention;
use parts::Parts;
use peer::Peer;
use permit::Permit;
use record::Record;
use register::register;
use roll::Roll;
use session::Session;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, Weak};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The most bytes that one guest call may move, in either direction.
///
/// The same limit as wasmtime-wasi's: a guest cannot make the host allocate more.
pub(crate) const MAX_TRANSFER: usize = 64 * 1024;

/// Identifies a connection in the log and in the `evented` contract. Unique in the
/// process.
pub(crate) type ConnectionId = u64;

/// An accepted connection. See the module's documentation.
pub(crate) struct Connection {
    // In this order: the poller drops the descriptor before the descriptor is closed.
    session: Session,
    parts: Parts,
}

impl Connection {
    /// Makes a connection of `service` from a connected, non-blocking socket, numbers it
    /// and logs it.
    pub(crate) fn new(
        service: &Arc<str>,
        socket: OwnedFd,
        peer: Peer,
        permit: Permit,
        roll: &Arc<Roll>,
    ) -> Arc<Self> {
        let parts = Parts::new(service, socket, peer, permit, roll);
        let record = &parts.enrolled.record;
        tracing::debug!(
            service = &**service,
            connection = record.id,
            peer = %record.peer,
            "connection opened"
        );
        Arc::new(Self {
            session: Session::default(),
            parts,
        })
    }

    /// The number of the connection.
    pub(crate) fn id(&self) -> ConnectionId {
        self.parts.enrolled.record.id
    }

    /// What others may know of the connection.
    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.parts.enrolled.record
    }

    /// The name of the service that accepted it.
    pub(crate) fn service(&self) -> &str {
        &self.parts.service
    }

    /// The other side.
    pub(crate) fn peer(&self) -> &Peer {
        &self.parts.enrolled.record.peer
    }

    /// The address that the peer has connected to. `None` if it is not an Internet
    /// address.
    pub(crate) fn local_ip(&self) -> io::Result<Option<SocketAddr>> {
        let address = rustix::net::getsockname(&self.parts.socket)?;
        Ok(address.try_into().ok())
    }

    /// The address that the peer has connected to, as text: `HOST:PORT`, or the path or
    /// `@NAME` of a Unix socket. Empty for a socket without a name.
    pub(crate) fn local_address(&self) -> io::Result<String> {
        let address = rustix::net::getsockname(&self.parts.socket)?;
        Ok(SocketName::try_from(address)?.text())
    }

    /// Whether a read or a write has failed permanently. No handler can cause that.
    pub(crate) fn is_lost(&self) -> bool {
        self.parts.lost.get().is_some()
    }

    /// Bytes read from the peer so far.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.record().bytes_in()
    }

    /// Bytes that the kernel has taken so far.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.record().bytes_out()
    }

    /// Counts a resource that the guest holds on this connection.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        self.session.guest_holds.fetch_add(1, Ordering::Relaxed);
        Held(Arc::downgrade(self))
    }

    /// Ends the guest's access to the connection: its resources are dead from now on,
    /// and its tasks that wait are woken.
    pub(crate) fn take_from_guest(&self) {
        self.session.over.store(true, Ordering::Relaxed);
        self.session.reader.wake();
        self.session.writer.wake();
    }

    /// Whether the guest has dropped every resource on this connection.
    pub(crate) fn is_released(&self) -> bool {
        self.session.guest_holds.load(Ordering::Relaxed) == 0
    }

    /// Sets the list in which this connection asks for attention, and in which it is found
    /// when the host is to end it.
    pub(crate) fn set_attention(&self, attention: Arc<Attention>) {
        self.record().set_attention(Some(Arc::clone(&attention)));
        *self.attention() = Some(attention);
    }

    /// Sets the list in which this connection is found when the host is to end it.
    pub(crate) fn set_end_attention(&self, attention: &Arc<Attention>) {
        self.record().set_attention(Some(Arc::clone(attention)));
    }

    /// Asks the `evented` dispatch to look at this connection. Does nothing if it was
    /// asked already, or if another dispatch serves the connection.
    pub(crate) fn ask_for_attention(&self) {
        if let Some(attention) = &*self.attention()
            && !self.session.asks.swap(true, Ordering::Relaxed)
        {
            attention.ask(self.id());
        }
    }

    /// Called when the dispatch looks at the connection: a later reason has to be asked
    /// for again.
    pub(crate) fn attention_is_given(&self) {
        self.session.asks.store(false, Ordering::Relaxed);
    }

    fn attention(&self) -> MutexGuard<'_, Option<Arc<Attention>>> {
        lock(&self.session.attention)
    }

    /// Returns the registration with the runtime's poller, which is made at the first
    /// wait. A connection that never waits has none, and neither has one that the
    /// `evented` dispatch watches itself.
    fn registration(&self) -> io::Result<&AsyncFd<Arc<OwnedFd>>> {
        if let Some(registration) = self.session.registration.get() {
            return Ok(registration);
        }
        let registration = register(
            Arc::clone(&self.parts.socket),
            Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY,
        )?;
        Ok(self.session.registration.get_or_init(|| registration))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.parts.socket.as_fd()
    }
}

/// A guest's hold on a connection. It is dropped with the resource that contains it.
///
/// It does not keep the connection alive: descriptor and permit are free again when the
/// host has closed the connection, even if the guest never drops its resources.
pub(crate) struct Held(Weak<Connection>);

impl Held {
    /// Returns the connection. `None` if its handler is done.
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

    /// A connection and the peer's end of it.
    pub(crate) fn connection() -> (Arc<Connection>, UnixStream) {
        let (socket, peer) = UnixStream::pair().unwrap();
        socket.set_nonblocking(true).unwrap();
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let address = Peer::Ip(([127, 0, 0, 1], 1).into());
        let socket = OwnedFd::from(socket);
        let connection = Connection::new(
            &"test".into(),
            socket,
            address,
            permit.into(),
            &Arc::default(),
        );
        (connection, peer)
    }
}
