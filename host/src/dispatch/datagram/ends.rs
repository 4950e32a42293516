//! Both ends of the streams of a `datagram-concurrent` handler, as the host has them: what
//! the guest reads comes from the source, what it writes goes into the outbox.

use super::source::Source;
use super::streams::Progress;
use super::{Serving, wanted};
use crate::datagram::MAX_BATCH;
use crate::guest::exports::datagram_concurrent::{WitDatagram, answer, datagram as to_wit};
use crate::lifecycle::Phase;
use crate::sync::lock;
use crate::version::Version;
use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use wasmtime::component::{Destination, StreamConsumer, StreamProducer, StreamResult, VecBuffer};
use wasmtime::{Result, StoreContextMut};

/// The stream of datagrams that a shared instance reads.
pub(super) struct Incoming {
    serving: Arc<Serving>,
    version: Arc<Version>,
    /// Is ready when the version is replaced.
    replaced: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// `None` when the stream has ended.
    pub(super) source: Arc<Mutex<Option<Source>>>,
    /// Whether the guest has read a datagram.
    has_read: bool,
    /// Takes the source, or why it failed.
    back: Option<oneshot::Sender<io::Result<Source>>>,
    pub(super) progress: Arc<Progress>,
}

impl Incoming {
    pub(super) fn new(
        serving: &Arc<Serving>,
        version: &Arc<Version>,
        source: Source,
        back: oneshot::Sender<io::Result<Source>>,
        progress: Arc<Progress>,
    ) -> Self {
        let replaced = Arc::clone(version);
        Self {
            serving: Arc::clone(serving),
            version: Arc::clone(version),
            replaced: Box::pin(async move { replaced.reached(Phase::Draining).await }),
            source: Arc::new(Mutex::new(Some(source))),
            has_read: false,
            back: Some(back),
            progress,
        }
    }

    /// Ends the stream, and gives the source back.
    fn end(&mut self, error: Option<io::Error>) -> StreamResult {
        self.progress.reading.send_replace(false);
        let source = lock(&self.source).take();
        if let (Some(source), Some(back)) = (source, self.back.take()) {
            let _ = back.send(error.map_or(Ok(source), Err));
        }
        StreamResult::Dropped
    }
}

impl Drop for Incoming {
    /// The instance has ended. If it has read nothing, the datagrams that it was made for
    /// end with it: another instance would end in the same way, again and again.
    fn drop(&mut self) {
        if !self.has_read
            && let Some(source) = &mut *lock(&self.source)
            && let Some(share) = self.version.take(source.batch.len())
        {
            source.batch.clear();
            *lock(&self.progress.share) = Some(share);
        }
        self.end(None);
    }
}

impl<D: 'static> StreamProducer<D> for Incoming {
    type Item = WitDatagram;
    type Buffer = VecBuffer<WitDatagram>;

    fn poll_produce<'a>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: StoreContextMut<'a, D>,
        mut destination: Destination<'a, WitDatagram, Self::Buffer>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let this = self.get_mut();
        // The guest reads on: it is done with what it has read before.
        if let Some(share) = lock(&this.progress.share).take() {
            this.serving.finish(share, &Ok(()));
            this.progress.at_rest.notify_one();
        }
        if this.replaced.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(this.end(None)));
        }
        this.progress.resumed.register(cx.waker());
        if this.progress.paused.load(Ordering::Relaxed) {
            return if finish {
                Poll::Ready(Ok(StreamResult::Cancelled))
            } else {
                Poll::Pending
            };
        }
        let lent = Arc::clone(&this.source);
        let mut lent = lock(&lent);
        let Some(source) = &mut *lent else {
            drop(lent);
            return Poll::Ready(Ok(this.end(None)));
        };
        match source.poll_next(cx, &wanted(&this.version.handler, MAX_BATCH)) {
            Poll::Ready(Ok(true)) => {}
            Poll::Ready(Ok(false)) => {
                drop(lent);
                return Poll::Ready(Ok(this.end(None)));
            }
            Poll::Ready(Err(error)) => {
                drop(lent);
                return Poll::Ready(Ok(this.end(Some(error))));
            }
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
        }
        let room = destination.remaining(&mut store).unwrap_or(MAX_BATCH);
        if room == 0 {
            // A read of nothing asks for readiness.
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let count = room.min(source.batch.len());
        let Some(share) = this.version.take(count) else {
            drop(lent);
            return Poll::Ready(Ok(this.end(None)));
        };
        let datagrams: Vec<_> = source.batch.iter().take(count).map(to_wit).collect();
        let bytes = datagrams.iter().map(size).sum();
        this.progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        source.batch.remove_first(count);
        this.has_read = true;
        *lock(&this.progress.share) = Some(share);
        destination.set_buffer(datagrams.into());
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

/// How much a datagram moves the guest's clock; one without bytes too.
fn size(datagram: &WitDatagram) -> u64 {
    datagram.data.len() as u64 + 1
}

/// The stream of datagrams that a guest sends.
pub(super) struct Outgoing {
    pub(super) serving: Arc<Serving>,
    pub(super) version: Arc<Version>,
    pub(super) progress: Arc<Progress>,
    /// Dropped when the guest has ended the stream.
    pub(super) _open: oneshot::Sender<()>,
}

impl<D: 'static> StreamConsumer<D> for Outgoing {
    type Item = WitDatagram;

    fn poll_consume(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: StoreContextMut<'_, D>,
        mut source: wasmtime::component::Source<'_, WitDatagram>,
        finish: bool,
    ) -> Poll<Result<StreamResult>> {
        let this = self.get_mut();
        let progress = &this.progress;
        // The guest writes on when what it wrote before is sent.
        progress.room.register(cx.waker());
        let mut outbox = lock(&progress.outbox);
        if !outbox.is_empty() {
            return if finish {
                Poll::Ready(Ok(StreamResult::Cancelled))
            } else {
                Poll::Pending
            };
        }
        let mut datagrams = Vec::with_capacity(MAX_BATCH);
        source.read(store, &mut datagrams)?;
        let bytes = datagrams.iter().map(size).sum();
        progress.bytes.fetch_add(bytes, Ordering::Relaxed);
        let answers = datagrams.into_iter().map(answer);
        this.serving
            .post(&mut outbox, &this.version.handler, answers);
        Poll::Ready(Ok(StreamResult::Completed))
    }
}
