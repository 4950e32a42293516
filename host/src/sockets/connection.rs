//! An accepted connection, as the host holds it.
//!
//! [`Connection`] is what both WASI versions and all dispatches share: reading,
//! writing, half-closing, readiness, and closing in order. Everything here is
//! non-blocking and byte for byte: what a read returned is gone from the socket
//! and nothing else is; what a write took is sent or, at the end, reported.
//!
//! It lives as long as the longest of: the guest's resources on it, the
//! dispatch's entry for it, and its closing.

use crate::sockets::attention::Attention;
use crate::sockets::poller::register;
use crate::sockets::traffic::Traffic;
use bytes::{Bytes, BytesMut};
use rustix::buffer::{Buffer, spare_capacity};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

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
    socket: Arc<OwnedFd>,
    registration: OnceLock<AsyncFd<Arc<OwnedFd>>>,
    output: Mutex<Output>,
    /// No read after `shutdown(receive)` or the end of file.
    read_closed: AtomicBool,
    /// A read or a write has failed for good: the peer reset the connection, or
    /// the network lost it.
    lost: AtomicBool,
    /// How many resources the guest holds: socket, input, output.
    guest_holds: AtomicU8,
    /// Where to say that this connection needs the `evented` dispatch.
    attention: Mutex<Option<Arc<Attention>>>,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    traffic: Arc<Traffic>,
}

/// The sending side.
#[derive(Default)]
struct Output {
    /// Accepted from the guest and not yet by the kernel; at most
    /// [`MAX_TRANSFER`] bytes.
    unsent: Bytes,
    fin: Fin,
    /// Why nothing can be sent any more.
    broken: Option<Errno>,
}

/// What has become of our FIN.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Fin {
    #[default]
    NotAsked,
    /// To be sent when nothing is unsent.
    Asked,
    Sent,
}

impl Connection {
    /// Takes over a connected, non-blocking socket.
    pub(crate) fn new(
        id: ConnectionId,
        socket: OwnedFd,
        peer: SocketAddr,
        traffic: Arc<Traffic>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            peer,
            socket: Arc::new(socket),
            registration: OnceLock::new(),
            output: Mutex::default(),
            read_closed: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            guest_holds: AtomicU8::new(0),
            attention: Mutex::default(),
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
        self.lost.load(Ordering::Relaxed)
    }

    /// Bytes read from the peer so far.
    pub(crate) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Bytes that the kernel has taken so far.
    pub(crate) fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Ordering::Relaxed)
    }

    /// Reads what is there into `buffer`, which must not be empty.
    ///
    /// `Ok(0)` is the end of file, for good. `WouldBlock` says that nothing is
    /// there now.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        self.read_with(room, || self.receive(buffer))
    }

    /// Reads at most `room` bytes of what is there; otherwise as
    /// [`try_read`](Self::try_read).
    pub(crate) fn try_read_vec(&self, room: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(room);
        self.read_with(room, || self.receive(spare_capacity(&mut bytes)))?;
        Ok(bytes)
    }

    fn read_with(
        &self,
        room: usize,
        receive: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.read_closed.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let count = match self.registration.get() {
            None => receive()?,
            // A short read has emptied the socket, so the next one would be
            // refused: forget the readiness now and save that system call.
            Some(registration) => {
                let mut short = None;
                let result = registration.try_io(Interest::READABLE, |_| {
                    let count = receive()?;
                    if count > 0 && count < room {
                        short = Some(count);
                        return Err(io::ErrorKind::WouldBlock.into());
                    }
                    Ok(count)
                });
                match short {
                    Some(count) => count,
                    None => result?,
                }
            }
        };
        if count == 0 {
            self.read_closed.store(true, Ordering::Relaxed);
        }
        self.bytes_in.fetch_add(count as u64, Ordering::Relaxed);
        self.traffic.add_in(count);
        Ok(count)
    }

    /// Is ready when [`try_read`](Self::try_read) may have something to say.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.read_closed.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        self.poll_input(cx)
    }

    /// Hands the kernel as much of `bytes` as it takes, which may be nothing.
    ///
    /// For a caller that keeps what was not taken. Must not be mixed with
    /// [`write`](Self::write).
    pub(crate) fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            {
                let mut output = self.output();
                output.check_open()?;
                match self.send(&mut output, bytes) {
                    Err(Errno::AGAIN) => {}
                    result => return Poll::Ready(result.map_err(Into::into)),
                }
            }
            ready!(self.poll_output(cx))?;
        }
    }

    /// Accepts all of `bytes`; what the kernel does not take now is sent by
    /// [`poll_flush`](Self::poll_flush).
    ///
    /// The caller has seen [`writable_bytes`](Self::writable_bytes) and writes
    /// no more than that.
    pub(crate) fn write(&self, bytes: Bytes) -> io::Result<()> {
        let mut output = self.output();
        output.check_open()?;
        if !output.unsent.is_empty() {
            let mut joined = BytesMut::from(std::mem::take(&mut output.unsent));
            joined.extend_from_slice(&bytes);
            output.unsent = joined.freeze();
            return Ok(());
        }
        output.unsent = bytes;
        self.send_unsent(&mut output)?;
        if !output.unsent.is_empty() {
            self.ask_for_attention();
        }
        Ok(())
    }

    /// How much [`write`](Self::write) may be given: nothing while earlier
    /// output is unsent.
    pub(crate) fn writable_bytes(&self) -> io::Result<usize> {
        let mut output = self.output();
        output.check_open()?;
        self.send_unsent(&mut output)?;
        if output.unsent.is_empty() {
            Ok(MAX_TRANSFER)
        } else {
            Ok(0)
        }
    }

    /// Whether the kernel has still to take something that was written.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.output().unsent.is_empty()
    }

    /// Sends what is unsent, and the FIN if it was asked for.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            {
                let mut output = self.output();
                if let Some(error) = output.broken {
                    return Poll::Ready(Err(error.into()));
                }
                self.send_unsent(&mut output)?;
                if output.unsent.is_empty() {
                    return Poll::Ready(Ok(()));
                }
            }
            ready!(self.poll_output(cx))?;
        }
    }

    /// Sends what is unsent without waiting. Says whether nothing is left.
    pub(crate) fn flush_now(&self) -> bool {
        let mut output = self.output();
        // Broken for good: nothing of it will ever be sent.
        self.send_unsent(&mut output).is_err() || output.unsent.is_empty()
    }

    /// Sends FIN after all that was written. Later writes are refused.
    pub(crate) fn shutdown_send(&self) {
        let mut output = self.output();
        if output.fin == Fin::NotAsked {
            output.fin = Fin::Asked;
            // A failure here is the peer's doing and shows in the next read.
            let _ = self.send_unsent(&mut output);
        }
    }

    /// Later reads are at the end of the file.
    ///
    /// The kernel is not told: `close` still has to see the peer's FIN.
    pub(crate) fn shutdown_receive(&self) {
        self.read_closed.store(true, Ordering::Relaxed);
    }

    /// Closes in order: sends what is unsent, then FIN, then reads and drops
    /// what the peer still sends until its FIN.
    ///
    /// A close with unread input makes the kernel send RST, which can overtake
    /// and destroy the answer on its way to the peer. Takes no longer than
    /// `linger`.
    pub(crate) async fn close(&self, linger: Duration) {
        self.shutdown_send();
        if self.discard_now() {
            return;
        }
        let finish = async {
            if std::future::poll_fn(|cx| self.poll_flush(cx))
                .await
                .is_err()
            {
                return;
            }
            loop {
                std::future::poll_fn(|cx| self.poll_input(cx)).await;
                if self.discard_now() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(linger, finish).await;
    }

    /// Reads and drops what is there. Says whether the connection is over.
    fn discard_now(&self) -> bool {
        if self.has_unsent() {
            return false;
        }
        let mut scratch = [0; 4096];
        // Bounded, so that a peer that sends for ever does not hold the thread.
        for _ in 0..64 {
            match self.discard(&mut scratch) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        false
    }

    fn discard(&self, scratch: &mut [u8]) -> io::Result<usize> {
        match self.registration.get() {
            None => self.receive(scratch),
            Some(registration) => {
                registration.try_io(Interest::READABLE, |_| self.receive(scratch))
            }
        }
    }

    fn receive(&self, buffer: impl Buffer<u8>) -> io::Result<usize> {
        // Non-blocking, so never interrupted. For a buffer of uninitialised
        // memory the first of the two results is the part that was filled; the
        // second is the count in any case.
        match rustix::net::recv(&self.socket, buffer, RecvFlags::empty()) {
            Ok((_, count)) => Ok(count),
            Err(Errno::AGAIN) => Err(Errno::AGAIN.into()),
            Err(error) => {
                self.lost.store(true, Ordering::Relaxed);
                Err(error.into())
            }
        }
    }

    fn poll_input(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.registration() {
            // A failure to wait is left to the next read to report.
            Ok(registration) => registration.poll_read_ready(cx).map(|_| ()),
            Err(_) => Poll::Ready(()),
        }
    }

    fn poll_output(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.registration()?
            .poll_write_ready(cx)
            .map(|ready| ready.map(|_| ()))
    }

    /// Counts a resource that the guest holds on this connection.
    pub(crate) fn hold(self: &Arc<Self>) -> Held {
        self.guest_holds.fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(self))
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
        if let Some(attention) = &*self.attention() {
            attention.ask(self.id);
        }
    }

    fn attention(&self) -> MutexGuard<'_, Option<Arc<Attention>>> {
        self.attention
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the kernel what it takes of `unsent`, and FIN when its turn has
    /// come. An error is final.
    fn send_unsent(&self, output: &mut Output) -> Result<(), Errno> {
        while !output.unsent.is_empty() {
            let bytes = output.unsent.clone();
            match self.send(output, &bytes) {
                Ok(count) => drop(output.unsent.split_to(count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if output.fin == Fin::Asked {
            output.fin = Fin::Sent;
            // ENOTCONN: the peer has reset the connection.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        }
        Ok(())
    }

    fn send(&self, output: &mut Output, bytes: &[u8]) -> Result<usize, Errno> {
        let send = || rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL);
        let result = match self.registration.get() {
            None => send(),
            Some(registration) => registration
                .try_io(Interest::WRITABLE, |_| Ok(send()?))
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)),
        };
        match result {
            Ok(count) => {
                self.bytes_out.fetch_add(count as u64, Ordering::Relaxed);
                self.traffic.add_out(count);
                Ok(count)
            }
            Err(Errno::AGAIN) => Err(Errno::AGAIN),
            Err(error) => {
                self.lost.store(true, Ordering::Relaxed);
                output.broken = Some(error);
                output.unsent = Bytes::new();
                Err(error)
            }
        }
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

impl Output {
    fn check_open(&self) -> Result<(), Errno> {
        match self.broken {
            Some(error) => Err(error),
            // What the kernel answers after shutdown(SHUT_WR).
            None if self.fin != Fin::NotAsked => Err(Errno::PIPE),
            None => Ok(()),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A guest's hold on a connection; dropped with the resource that has it.
pub(crate) struct Held(Arc<Connection>);

impl std::ops::Deref for Held {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Arc<Connection> {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.guest_holds.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.ask_for_attention();
        }
    }
}
