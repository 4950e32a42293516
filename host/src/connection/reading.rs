//! Reading from a connection.

use super::peer::Peer;
use super::register::transfer_once;
use super::{Connection, MAX_TRANSFER};
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

/// From how many bytes on a read is no short one.
const MUCH: usize = 4096;
/// How many short reads there are before a connection is again thought to send little: the
/// last read of a long message is a short one.
const PATIENCE: u8 = 8;

thread_local! {
    /// The buffer for connections that send little. What a read finds is copied out of it.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MAX_TRANSFER]);
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

    /// Reads at most `room` bytes of what is there, and no more than [`MAX_TRANSFER`]; otherwise
    /// the same as [`try_read`](Self::try_read).
    ///
    /// Most messages are short, and a buffer of 64 KiB for each is dear: when so much is freed,
    /// glibc tidies up its lists and gives memory back. So only a connection that has sent much
    /// at once gets buffers of its own, and need not be copied.
    pub(crate) fn try_read_bytes(&self, room: usize) -> io::Result<Bytes> {
        let room = room.min(MAX_TRANSFER);
        let own_buffers = &self.session.own_buffers;
        let left = own_buffers.load(Ordering::Relaxed);
        let bytes = if left > 0 {
            let mut bytes = Vec::with_capacity(room);
            self.read_with(room, || self.receive(spare_capacity(&mut bytes)))?;
            Bytes::from(bytes)
        } else {
            BUFFER.with_borrow_mut(|buffer| {
                let (buffer, _) = buffer.split_at_mut(room);
                let count = self.try_read(buffer)?;
                let read = buffer.get(..count).unwrap_or_default();
                io::Result::Ok(Bytes::copy_from_slice(read))
            })?
        };
        let left = if bytes.len() >= MUCH {
            PATIENCE
        } else {
            left.saturating_sub(1)
        };
        own_buffers.store(left, Ordering::Relaxed);
        Ok(bytes)
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

    /// A read takes all that there is room for, and all bytes come in order, whichever buffer
    /// they are read into.
    #[test]
    fn each_read_takes_what_there_is_room_for() {
        let (connection, mut peer) = connection();
        let own_buffers = || connection.session.own_buffers.load(Ordering::Relaxed) > 0;
        let sent: Vec<u8> = (0..=250).cycle().take(3 * MUCH).collect();
        let mut check = |room, sizes: &[usize], has_own_then| {
            peer.write_all(&sent).unwrap();
            let read = sizes.iter().map(|size| {
                let bytes = connection.try_read_bytes(room).unwrap();
                assert_eq!(bytes.len(), *size);
                bytes
            });
            let read: Vec<_> = read.collect();
            assert_eq!(read.concat(), sent);
            assert_eq!(own_buffers(), has_own_then, "{room}");
        };
        assert!(!own_buffers());
        check(MAX_TRANSFER, &[3 * MUCH], true);
        check(usize::MAX, &[3 * MUCH], true);
        check(2 * MUCH, &[2 * MUCH, MUCH], true);
        check(2 * MUCH + 1, &[2 * MUCH + 1, MUCH - 1], true);
        check(MUCH / 4, &[MUCH / 4; 12], false);
        check(2 * MUCH + 1, &[2 * MUCH + 1, MUCH - 1], true);
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
