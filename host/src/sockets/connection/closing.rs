//! Closing a connection so that the peer gets all that was written.

use super::Connection;
use std::io;
use std::time::Duration;
use tokio::io::Interest;

impl Connection {
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
}
