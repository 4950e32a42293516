//! Where the datagrams for a guest come from: the sockets of the service, until it ends.

use crate::datagram::MAX_BATCH;
use crate::datagram::batch::Batch;
use crate::datagram::socket::{Left, Sockets, Wanted};
use crate::lifecycle::Phase;
use crate::version::versions::Versions;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::watch;

/// Receives the datagrams of a service, and keeps those that no guest has yet.
///
/// While the service serves, it waits for them. When the service drains, it takes what
/// the kernel has at that time: the senders may have gone. Datagrams that come later are
/// lost, as if the service had ended.
pub(super) struct Source {
    sockets: Arc<Sockets>,
    phase: watch::Receiver<Phase>,
    suspended: watch::Receiver<bool>,
    /// Is ready when the service no longer serves.
    ending: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// Is ready when the service is no longer suspended. `None` unless it is.
    resumed: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// How many datagrams may still be received while the service drains. `None` before
    /// it drains.
    left: Option<usize>,
    /// What was received and is not with a guest.
    pub(super) batch: Batch,
}

impl Source {
    pub(super) fn new(versions: &Versions, sockets: Arc<Sockets>) -> Self {
        let mut serving = versions.phases();
        let ending = async move {
            let _ = serving.wait_for(|phase| *phase != Phase::Serving).await;
        };
        Self {
            sockets,
            phase: versions.phases(),
            suspended: versions.suspended(),
            ending: Box::pin(ending),
            resumed: None,
            left: None,
            batch: Batch::new(),
        }
    }

    /// Receives a batch, unless there is one that no guest has. Returns false if no more
    /// will come. Cancel-safe.
    pub(super) async fn next(&mut self, wanted: &Wanted) -> io::Result<bool> {
        poll_fn(|cx| self.poll_next(cx, wanted)).await
    }

    /// As [`next`](Self::next).
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        wanted: &Wanted,
    ) -> Poll<io::Result<bool>> {
        // They may have been received for a version that takes larger ones.
        self.sockets.drop_oversized(&mut self.batch, wanted);
        if !self.batch.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if self.left.is_none() {
            // First: datagrams that come after the end has begun are not waited for.
            if self.ending.as_mut().poll(cx).is_pending() {
                if self.poll_resumed(cx).is_pending() {
                    return Poll::Pending;
                }
                let received = self.sockets.poll_receive(cx, &mut self.batch, wanted);
                return received.map(|received| received.map(|()| true));
            }
        }
        let left = *self.left.get_or_insert_with(|| self.sockets.most_waiting());
        if *self.phase.borrow() == Phase::Aborting || left == 0 {
            return Poll::Ready(Ok(false));
        }
        let wanted = Wanted {
            count: wanted.count.min(left).min(MAX_BATCH),
            ..*wanted
        };
        let taken = self.sockets.receive_now(&mut self.batch, &wanted)?;
        self.left = Some(left.saturating_sub(taken.count));
        if !self.batch.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if taken.left == Left::Nothing {
            // What comes from now on is too late, whoever asks again.
            self.left = Some(0);
            return Poll::Ready(Ok(false));
        }
        // What came is for nobody, and there may be more.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Is ready when the service takes datagrams: those that come before wait with the
    /// kernel.
    fn poll_resumed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if *self.suspended.borrow() {
            let mut suspended = self.suspended.clone();
            let resumed = self.resumed.get_or_insert_with(|| {
                Box::pin(async move {
                    let _ = suspended.wait_for(|suspended| !suspended).await;
                })
            });
            if resumed.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.resumed = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::socket::tests::sockets;
    use crate::guest::memory::MemoryBook;
    use crate::limits::Limits;
    use crate::version::access::AccessLog;
    use crate::version::stay::tests::HANDLER;
    use std::net::UdpSocket;

    const WANTED: Wanted = Wanted {
        count: 1,
        max_bytes: 10,
    };

    /// A source, its service, and a socket that writes to it.
    fn source() -> (Source, Arc<Versions>, UdpSocket) {
        let versions = Versions::new(
            "source",
            Limits::default(),
            AccessLog::Off,
            Arc::clone(&HANDLER),
            MemoryBook::default(),
        );
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.connect(socket.local_addr().unwrap()).unwrap();
        let (sockets, _) = sockets(socket, false);
        (Source::new(&versions, Arc::new(sockets)), versions, peer)
    }

    #[tokio::test]
    async fn what_is_there_when_the_service_drains_is_received() {
        let (mut source, versions, peer) = source();
        for data in [
            &b"one"[..],
            b"longer than ten bytes",
            b"longer than ten too",
            b"two",
        ] {
            peer.send(data).unwrap();
        }
        versions.enter(Phase::Draining);
        for expected in [b"one", b"two"] {
            assert!(source.next(&WANTED).await.unwrap());
            assert_eq!(source.batch.iter().next().unwrap().data, expected);
            source.batch.clear();
        }
        assert!(!source.next(&WANTED).await.unwrap());
        // More would have been received, but the end has been told by now.
        peer.send(b"late").unwrap();
        assert!(!source.next(&WANTED).await.unwrap());
    }

    #[tokio::test]
    async fn a_source_that_has_ended_stays_so() {
        let (mut source, versions, peer) = source();
        peer.send(b"one").unwrap();
        versions.enter(Phase::Aborting);
        assert!(!source.next(&WANTED).await.unwrap());
        assert!(!source.next(&WANTED).await.unwrap());
    }
}
