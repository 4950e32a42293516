//! Closing a connection so that the peer gets all that was written.

use super::Connection;
use rustix::net::sockopt;
use std::future::poll_fn;
use std::io;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;

/// How many times a closing connection is read before other tasks get the thread, so
/// that a peer that sends without end does not keep it.
const READS: usize = 64;

/// The state of the peer's sending half.
enum Input {
    /// It has ended, with FIN or with an error. Also if nothing can wait for more.
    Ended,
    /// There may be more right now.
    More,
    /// There is nothing now.
    Nothing,
}

impl Connection {
    /// Closes in order: sends what is unsent, then FIN, and reads and drops what the
    /// peer still sends until its FIN.
    ///
    /// A close with unread input makes the kernel send RST, which can overtake and
    /// destroy the answer on its way to the peer.
    ///
    /// Takes no longer than `linger`. Returns how many bytes were not sent: if there
    /// are any, the connection is reset, because FIN would tell the peer that it has
    /// everything.
    pub(crate) async fn close(&self, linger: Duration) -> usize {
        self.shutdown_send();
        // Most peers close first, and then no timer is needed.
        if self.has_unsent() || !matches!(self.discard(), Input::Ended) {
            let closing = poll_fn(|cx| self.poll_close(cx));
            let _ = tokio::time::timeout(linger, closing).await;
        }
        let unsent = self.unsent_bytes();
        if unsent > 0 {
            self.reset_at_close();
        }
        unsent
    }

    /// Makes the close reset the connection, also if the kernel has all bytes.
    pub(crate) fn reset_at_close(&self) {
        let _ = sockopt::set_socket_linger(self, Some(Duration::ZERO));
    }

    /// Is ready when everything is sent and the peer's input has ended, or when sending
    /// failed.
    fn poll_close(&self, cx: &mut Context<'_>) -> Poll<()> {
        let flushed = match self.poll_flush(cx) {
            Poll::Ready(Ok(())) => true,
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Pending => false,
        };
        loop {
            match self.discard() {
                Input::Ended if flushed => return Poll::Ready(()),
                // `poll_flush` has registered the waker.
                Input::Ended => return Poll::Pending,
                Input::Nothing => ready!(self.poll_input(cx)),
                Input::More => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Reads and drops what is there.
    fn discard(&self) -> Input {
        if self.parts.has_ended.load(Ordering::Relaxed) {
            return Input::Ended;
        }
        let mut scratch = [0; 4096];
        for _ in 0..READS {
            let read = match self.session.registration.get() {
                None => self.receive(&mut scratch),
                Some(registration) => {
                    registration.try_io(Interest::READABLE, |_| self.receive(&mut scratch))
                }
            };
            match read {
                Ok(0) => return Input::Ended,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // If the poller refused this socket, nothing can wait for the
                    // peer's FIN: each wait would return at once, without end.
                    return match self.session.unwaitable.get() {
                        Some(_) => Input::Ended,
                        None => Input::Nothing,
                    };
                }
                Err(_) => return Input::Ended,
            }
        }
        Input::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::register::register;
    use crate::connection::tests::connection;
    use bytes::Bytes;
    use std::io::{Read as _, Write as _};
    use std::sync::Arc;
    use tokio::time::Instant;

    const LINGER: Duration = Duration::from_secs(5);

    /// Closes the connection. Returns how many bytes were not sent, and how long that
    /// took.
    async fn close(connection: &Connection) -> (usize, Duration) {
        let begun = Instant::now();
        let unsent = connection.close(LINGER).await;
        (unsent, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_ended_is_not_waited_for() {
        let (connection, peer) = connection();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(close(&connection).await, (0, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_waited_for_as_long_as_the_linger() {
        let (connection, mut peer) = connection();
        peer.write_all(b"unread").unwrap();
        let (unsent, took) = close(&connection).await;
        assert_eq!(unsent, 0);
        assert!((LINGER..LINGER * 2).contains(&took), "{took:?}");
        // The peer gets FIN.
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_loses_what_is_unsent_after_the_linger() {
        let (connection, _peer) = connection();
        while connection.writable_bytes().unwrap() > 0 {
            connection.write(Bytes::from(vec![b'x'; 4096])).unwrap();
        }
        let (unsent, took) = close(&connection).await;
        assert!(unsent > 0);
        assert!((LINGER..LINGER * 2).contains(&took), "{took:?}");
    }

    /// The runtime's poller can refuse a descriptor, for lack of memory or of watches.
    /// Here the poller has the descriptor already, and so refuses it.
    #[test]
    fn a_connection_that_cannot_be_watched_closes_all_the_same() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            runtime.block_on(async {
                let (connection, _silent) = connection();
                let _first = register(
                    Arc::clone(&connection.parts.socket),
                    Interest::READABLE | Interest::WRITABLE,
                )
                .unwrap();
                assert_eq!(connection.close(Duration::from_secs(3600)).await, 0);
            });
            done.send(()).unwrap();
        });
        is_done.recv_timeout(Duration::from_secs(20)).unwrap();
    }
}
