//! Reading from a connection.

use super::Connection;
use super::peer::Peer;
use super::register::transfer_once;
use bytes::Bytes;
use rustix::buffer::{Buffer, spare_capacity};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How many bytes a short read has room for.
const SHORT: usize = 4096;

thread_local! {
    /// The buffer of short reads. A guest's read is made on its own stack, of which a buffer
    /// would take a page more per connection.
    static SHORT_BUFFER: RefCell<Box<[u8; SHORT]>> = RefCell::new(Box::new([0; SHORT]));
}

impl Connection {
    /// Reads what is there into `buffer`, which must not be empty.
    ///
    /// `Ok(0)` is the end of file; later reads return it too. `WouldBlock` means that
    /// nothing is there now.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        self.read_with(room, || self.receive(buffer))
    }

    /// Reads at most `room` bytes of what is there; otherwise the same as
    /// [`try_read`](Self::try_read).
    ///
    /// Most messages are short, and the buffer of a whole transfer is dear: glibc tidies up
    /// its lists and gives memory back when so much is freed. So a connection has such a
    /// buffer only after a read that was no short one.
    pub(crate) fn try_read_bytes(&self, room: usize) -> io::Result<Bytes> {
        let much = &self.session.reads_much;
        if much.load(Ordering::Relaxed) {
            let mut bytes = Vec::with_capacity(room);
            let count = self.read_with(room, || self.receive(spare_capacity(&mut bytes)))?;
            much.store(count >= SHORT, Ordering::Relaxed);
            return Ok(bytes.into());
        }
        SHORT_BUFFER.with_borrow_mut(|buffer| {
            let (buffer, _) = buffer.split_at_mut(room.min(SHORT));
            let count = self.try_read(buffer)?;
            much.store(count >= SHORT, Ordering::Relaxed);
            let read = buffer.get(..count).unwrap_or_default();
            Ok(Bytes::copy_from_slice(read))
        })
    }

    /// Calls `receive`, which has so much room, unless the input has ended, and counts the
    /// bytes.
    fn read_with(
        &self,
        room: usize,
        receive: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.parts.read_closed.load(Ordering::Relaxed) {
            return Ok(0);
        }
        let result = match self.session.registration.get() {
            None => receive(),
            Some(registration) => self.read_polled(registration, room, receive),
        };
        let count = match result {
            // If the poller refused this socket, that error is reported: the caller
            // would try again without ever being woken.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.session.has_input.store(false, Ordering::Relaxed);
                return Err(self
                    .session
                    .unwaitable
                    .get()
                    .map_or(error, |error| (*error).into()));
            }
            result => result?,
        };
        if count == 0 {
            // The kernel reports an error once, and a write may have seen it first.
            if let Some(error) = self.parts.lost.get().filter(|error| **error != Errno::PIPE) {
                return Err((*error).into());
            }
            self.parts.has_ended.store(true, Ordering::Relaxed);
            self.parts.read_closed.store(true, Ordering::Relaxed);
        } else if count < room && self.has_input() && self.was_all() {
            self.session.has_input.store(false, Ordering::Relaxed);
        }
        self.parts.enrolled.add_in(count);
        Ok(count)
    }

    /// Calls `receive` if the runtime's poller has said that there is input.
    ///
    /// A read that has found less than it had room for has taken all. But a read stops short
    /// before an urgent byte, too; the poller says that there is one. At the end of file it
    /// says so for good.
    fn read_polled(
        &self,
        registration: &AsyncFd<Arc<OwnedFd>>,
        room: usize,
        receive: impl FnOnce() -> io::Result<usize>,
    ) -> io::Result<usize> {
        transfer_once(registration, Interest::READABLE, receive, |count| {
            let is_short = count > 0 && count < room;
            // The bytes of a Unix socket may be read apart, see below.
            is_short && self.peer().ip().is_some() && !has_urgent_byte(registration)
        })
    }

    /// Whether a read that has found less than it had room for has taken all that the poller
    /// has said of.
    fn was_all(&self) -> bool {
        if self.session.has_marks.load(Ordering::Relaxed) {
            return false;
        }
        match self.peer() {
            Peer::Ip(_) => true,
            // The bytes of two writes may be read apart (unix(7): with descriptors of other
            // files, or with credentials).
            Peer::Unix { .. } => rustix::io::ioctl_fionread(&self.parts.socket) == Ok(0),
        }
    }

    /// Notes what the poller of the `evented` dispatch says: there is input. It says so once
    /// for what has come. `has_marks` is whether a read may stop short of what is there:
    /// before an urgent byte, or before the end of file.
    pub(crate) fn note_input(&self, has_marks: bool) {
        if has_marks {
            self.session.has_marks.store(true, Ordering::Relaxed);
        }
        self.session.has_input.store(true, Ordering::Relaxed);
    }

    /// Whether no read has taken all of it yet.
    pub(crate) fn has_input(&self) -> bool {
        self.session.has_input.load(Ordering::Relaxed)
    }

    /// Asks the kernel for the error that the poller has reported, and keeps it. The
    /// guest may close without another read or write.
    pub(crate) fn note_error(&self) {
        if let Ok(Err(error)) = rustix::net::sockopt::socket_error(&self.parts.socket) {
            let _ = self.parts.lost.set(error);
        }
    }

    /// Is ready when [`try_read`](Self::try_read) may return something other than
    /// `WouldBlock`.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.parts.read_closed.load(Ordering::Relaxed) {
            return Poll::Ready(());
        }
        self.session.reader.register(cx.waker());
        self.poll_input(cx)
    }

    /// Makes later reads return the end of file.
    ///
    /// The kernel is not told: `close` still has to see the peer's FIN.
    pub(crate) fn shutdown_receive(&self) {
        self.parts.read_closed.store(true, Ordering::Relaxed);
    }

    /// Receives from the socket, and keeps an error in `lost`.
    pub(super) fn receive(&self, buffer: impl Buffer<u8>) -> io::Result<usize> {
        // The socket is non-blocking, so the call is never interrupted. For a buffer of
        // uninitialised memory the first of the two results is the part that was
        // filled; the second is the count in any case.
        match rustix::net::recv(&self.parts.socket, buffer, RecvFlags::empty()) {
            Ok((_, count)) => Ok(count),
            Err(Errno::AGAIN) => Err(Errno::AGAIN.into()),
            Err(error) => {
                let _ = self.parts.lost.set(error);
                Err(error.into())
            }
        }
    }

    /// Is ready when the socket may have input, or when the poller has refused the
    /// socket.
    pub(super) fn poll_input(&self, cx: &mut Context<'_>) -> Poll<()> {
        let ready = match self.registration() {
            Ok(registration) => ready!(registration.poll_read_ready(cx)).map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = ready {
            // The next read reports it.
            let _ = self
                .session
                .unwaitable
                .set(Errno::from_io_error(&error).unwrap_or(Errno::IO));
        }
        Poll::Ready(())
    }
}

/// Whether the runtime's poller has ever said that there is an urgent byte, or that the
/// input has ended.
fn has_urgent_byte(registration: &AsyncFd<Arc<OwnedFd>>) -> bool {
    registration.try_io(Interest::PRIORITY, |_| Ok(())).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::MAX_TRANSFER;
    use crate::connection::tests::connection;
    use std::future::poll_fn;
    use std::io::Write as _;

    /// Whether the next read would ask the kernel.
    fn asks_the_kernel(connection: &Connection) -> bool {
        let registration = connection.session.registration.get().unwrap();
        let is_ready = registration.try_io(Interest::READABLE, |_| Ok(()));
        is_ready.is_ok()
    }

    async fn readable(connection: &Connection) {
        poll_fn(|cx| connection.poll_readable(cx)).await;
    }

    #[test]
    fn a_read_has_more_room_after_one_that_was_filled() {
        let (connection, mut peer) = connection();
        let sent: Vec<u8> = (0..=255).cycle().take(3 * SHORT).collect();
        peer.write_all(&sent).unwrap();
        let first = connection.try_read_bytes(MAX_TRANSFER).unwrap();
        let second = connection.try_read_bytes(2 * SHORT - 1).unwrap();
        let third = connection.try_read_bytes(MAX_TRANSFER).unwrap();
        assert_eq!(
            (first.len(), second.len(), third.len()),
            (SHORT, 2 * SHORT - 1, 1)
        );
        assert_eq!([first, second, third].concat(), sent);
        // The last one was short.
        peer.write_all(&sent).unwrap();
        assert_eq!(connection.try_read_bytes(10).unwrap().len(), 10);
        assert_eq!(
            connection.try_read_bytes(MAX_TRANSFER).unwrap().len(),
            SHORT
        );
    }

    #[tokio::test]
    async fn a_read_that_is_not_filled_was_the_last_one() {
        let (connection, mut peer) = connection();
        peer.write_all(b"12345").unwrap();
        readable(&connection).await;
        assert_eq!(connection.try_read(&mut [0; 3]).unwrap(), 3);
        assert!(asks_the_kernel(&connection));
        assert_eq!(connection.try_read(&mut [0; 3]).unwrap(), 2);
        assert!(!asks_the_kernel(&connection));
        // What comes later is found, and the end of file after it.
        peer.write_all(b"678").unwrap();
        drop(peer);
        readable(&connection).await;
        assert_eq!(connection.try_read(&mut [0; 8]).unwrap(), 3);
        readable(&connection).await;
        assert_eq!(connection.try_read(&mut [0; 8]).unwrap(), 0);
    }
}
