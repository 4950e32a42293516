//! Streams of datagrams: `datagram-concurrent` handlers.
//!
//! Under `poll` one instance has the datagrams of all senders. When another version
//! replaces it, the stream that it reads ends, and the next version receives while this
//! one finishes. Under the other dispatches the stream has one datagram.

use super::each::Owned;
use super::source::Source;
use super::{Arrived, Serving, depart, wanted};
use crate::contract::Contract;
use crate::datagram::MAX_BATCH;
use crate::datagram::outbox::Outbox;
use crate::dispatch::fault;
use crate::guest::SHARED_INSTANCES;
use crate::guest::deadline::{Deadline, Watched};
use crate::guest::exports::DatagramConcurrent;
use crate::guest::exports::datagram_concurrent::{WitDatagram, answer, datagram as to_wit};
use crate::guest::failure::Failure;
use crate::guest::instance::{Instance, Links, Prepared};
use crate::lifecycle::Phase;
use crate::sync::lock;
use crate::version::Version;
use crate::version::offer::GATHER;
use crate::version::share::Share;
use crate::version::succession::Departure;
use futures_util::task::AtomicWaker;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use wasmtime::component::{
    Destination, StreamConsumer, StreamProducer, StreamReader, StreamResult, VecBuffer,
};
use wasmtime::{Result, StoreContextMut};

/// Runs one instance after another. Returns the source when no more will come (false),
/// or when the current version has another contract (true).
pub(super) async fn run(serving: &Arc<Serving>, mut source: Source) -> io::Result<(Source, bool)> {
    let mut instances = Instances::of(serving.versions.current());
    loop {
        let current = serving.versions.current();
        if current.handler.contract() != Contract::DatagramConcurrent {
            return Ok((source, true));
        }
        if !Arc::ptr_eq(&instances.version, &current) {
            instances = Instances::of(Arc::clone(&current));
        }
        // An instance is made when there is a datagram to serve.
        match serving.receive(&mut source, &current, MAX_BATCH).await? {
            Arrived::Datagrams => {}
            Arrived::Nothing => {
                serving.keep_last(instances.ahead.take()).await;
                return Ok((source, false));
            }
            Arrived::Replaced => continue,
            Arrived::Departure(departure) => {
                depart(&mut instances.ahead, departure).await;
                continue;
            }
        }
        if !current.is_serving() {
            if serving.versions.is_current(&current) {
                serving.versions.lose(source.batch.len());
                return Ok((source, false));
            }
            continue;
        }
        let permit = tokio::select! {
            biased;
            permit = Arc::clone(&instances.permits).acquire_owned() => permit,
            () = current.reached(Phase::Draining), if serving.versions.is_serving() => continue,
        };
        let permit = permit.map_err(io::Error::other)?;
        let (back, mut comes_back) = oneshot::channel();
        let ahead = instances.ahead.take();
        let bytes = ahead.as_ref().map(|it| Arc::clone(&it.links.bytes));
        let progress = Progress::new(&current, bytes.unwrap_or_default());
        let incoming = Incoming::new(serving, &current, source, back, progress);
        let (progress, lent) = (Arc::clone(&incoming.progress), Arc::clone(&incoming.source));
        let task = {
            let (serving, version) = (Arc::clone(serving), Arc::clone(&current));
            let progress = Arc::clone(&progress);
            async move {
                fault::point(&serving.versions.service);
                let outcome = serve(&serving, &version, ahead, incoming, &progress).await;
                progress.finish(&serving, &version, &outcome);
                drop(permit);
            }
        };
        serving.versions.spawn_task(task);
        let ended = tokio::select! {
            biased;
            ended = &mut comes_back => ended,
            // A guest that reads nothing now must not keep the datagrams from the next
            // version.
            () = current.reached(Phase::Draining), if serving.versions.is_serving() => {
                progress.reading.send_replace(false);
                let taken = lock(&lent).take();
                match taken {
                    Some(source) => Ok(Ok(source)),
                    None => comes_back.await,
                }
            }
        };
        source = match ended {
            Ok(ended) => ended?,
            // Lost in a panic.
            Err(_) => Source::new(&serving.versions, Arc::clone(&serving.sockets)),
        };
    }
}

/// The instances of a version that exist: one that receives, and others that have ended
/// the stream that they read, and not the one that they write. There are as many as the
/// version has room for.
struct Instances {
    version: Arc<Version>,
    permits: Arc<Semaphore>,
    /// The instance that was made ahead, until the first datagram is there.
    ahead: Option<Instance<DatagramConcurrent>>,
}

impl Instances {
    fn of(version: Arc<Version>) -> Self {
        let permits = Arc::new(Semaphore::new(SHARED_INSTANCES as usize));
        let ahead = version.prepared().and_then(Prepared::instance);
        Self {
            version,
            permits,
            ahead,
        }
    }
}

/// Serves one datagram in an instance of its own.
pub(super) async fn one(
    serving: &Arc<Serving>,
    version: &Arc<Version>,
    datagram: &Owned,
) -> Result<(), Failure> {
    let incoming = vec![to_wit(datagram.as_received())];
    let progress = Progress::new(version, Arc::default());
    progress.reading.send_replace(false);
    serve(serving, version, None, incoming, &progress).await
}

/// Makes an instance, unless there is one, and calls its `serve`. Returns when the stream of what it sends
/// has ended.
async fn serve(
    serving: &Arc<Serving>,
    version: &Arc<Version>,
    ahead: Option<Instance<DatagramConcurrent>>,
    incoming: impl StreamProducer<crate::guest::State, Item = WitDatagram>,
    progress: &Arc<Progress>,
) -> Result<(), Failure> {
    let handler = &version.handler;
    let links = Links {
        bytes: Arc::clone(&progress.bytes),
        ..Links::default()
    };
    let calling = async {
        let Instance {
            mut store,
            clock,
            exports,
            keeper,
            ..
        } = match ahead {
            Some(instance) => instance,
            None => Instance::new(handler, serving.versions.scope(None), links).await?,
        };
        let call = store.run_concurrent(async |accessor| {
            let from_wasmtime = |error| Failure::from_call(&error);
            let incoming = accessor.with(|access| StreamReader::new(access, incoming));
            let incoming = incoming.map_err(from_wasmtime)?;
            let outgoing = exports.serve_in(accessor, incoming).await?;
            let (open, is_over) = oneshot::channel();
            let consumer = Outgoing {
                serving: Arc::clone(serving),
                version: Arc::clone(version),
                progress: Arc::clone(progress),
                _open: open,
            };
            let piped = accessor.with(|access| outgoing.pipe(access, consumer));
            piped.map_err(from_wasmtime)?;
            // The other end is dropped with the consumer.
            let mut is_over = pin!(is_over);
            loop {
                let departure = tokio::select! {
                    biased;
                    _ = &mut is_over => break,
                    departure = progress.departing(version) => departure,
                };
                progress.pause().await;
                let state = progress.watched.hold(keeper.save_in(accessor)).await?;
                departure.settle(state).await;
                progress.resume();
            }
            if serving.versions.last_state.is_wanted() {
                let last = progress.watched.hold(keeper.save_in(accessor)).await;
                serving.versions.last_state.keep(last);
            }
            Ok(())
        });
        match clock.count(call).await {
            Ok(result) => result,
            Err(error) => Err(Failure::from_call(&error)),
        }
    };
    let result = tokio::select! {
        biased;
        result = calling => result,
        never = progress.send(serving) => match never {},
        () = version.reached(Phase::Aborting) => return Err(Failure::Aborted),
        // Polled outside of the store's event loop: inside of it a timer may not fire
        // (wasmtime #11869, #11870).
        () = progress.overdue(serving) => Err(Failure::Aborted),
        overdue = progress.watched.overdue() => Err(overdue.into()),
    };
    // What the guest wrote last.
    let sent = poll_fn(|cx| lock(&progress.outbox).poll_send(cx, &serving.sockets));
    tokio::select! {
        biased;
        () = sent => {}
        () = version.reached(Phase::Aborting) => {}
    }
    result
}

/// How far an instance is with its datagrams.
struct Progress {
    /// The datagrams that the guest read last.
    share: Mutex<Option<Share>>,
    /// Bytes that the guest has taken and given, for its clock.
    bytes: Arc<AtomicU64>,
    /// Whether the guest may still read datagrams.
    reading: watch::Sender<bool>,
    /// What the guest has written and the sockets have not taken.
    outbox: Mutex<Outbox>,
    /// The guest's task that waits until the outbox is empty.
    room: AtomicWaker,
    /// Whether datagrams wait because the version departs.
    paused: AtomicBool,
    /// The guest's task that reads meanwhile.
    resumed: AtomicWaker,
    /// Notified when the guest reads on.
    at_rest: Notify,
    /// The calls of `instance-state`.
    watched: Watched,
}

impl Progress {
    fn new(version: &Version, bytes: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            share: Mutex::default(),
            bytes,
            reading: watch::Sender::new(true),
            outbox: Mutex::default(),
            room: AtomicWaker::new(),
            paused: AtomicBool::new(false),
            resumed: AtomicWaker::new(),
            at_rest: Notify::new(),
            watched: Watched::new(Deadline(version.handler.limits().deadline)),
        })
    }

    /// Waits until somebody asks for what the instance knows, as long as it may read
    /// datagrams.
    async fn departing(&self, version: &Version) -> Departure {
        let mut reading = self.reading.subscribe();
        let has_ended = async move {
            let _ = reading.wait_for(|reading| !reading).await;
        };
        tokio::select! {
            biased;
            () = has_ended => pending().await,
            departure = version.departing(), if version.handler.keeps_state() => departure,
        }
    }

    /// Gives the guest no more datagrams, and waits until it is done with those that it
    /// has, but not for long.
    async fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
        let read_on = async {
            while lock(&self.share).is_some() {
                self.at_rest.notified().await;
            }
        };
        let _ = tokio::time::timeout(GATHER, read_on).await;
    }

    /// Gives the guest datagrams again.
    fn resume(&self) {
        self.paused.store(false, Ordering::Relaxed);
        self.resumed.wake();
    }

    /// Sends what the guest writes. Never returns.
    ///
    /// Polled after the guest in each poll of the task, and so without a waker of its
    /// own: what the guest has written in this poll is sent in it.
    async fn send(&self, serving: &Serving) -> Infallible {
        poll_fn(|cx| {
            if lock(&self.outbox)
                .poll_send(cx, &serving.sockets)
                .is_ready()
            {
                self.room.wake();
            }
            Poll::Pending
        })
        .await
    }

    /// Waits until the guest has not ended for a drain timeout after its last datagram, or
    /// for a deadline if that is longer.
    async fn overdue(&self, serving: &Serving) {
        let _ = self.reading.subscribe().wait_for(|reading| !reading).await;
        let limits = &serving.versions.limits;
        tokio::time::sleep(limits.drain_timeout.max(limits.deadline)).await;
    }

    /// Counts the datagrams that the guest read last, and logs how the instance ended.
    fn finish(&self, serving: &Serving, version: &Arc<Version>, outcome: &Result<(), Failure>) {
        match lock(&self.share).take() {
            Some(share) => serving.finish(share, outcome),
            None => {
                if let Err(failure) = outcome {
                    tracing::warn!(
                        service = &*serving.versions.service,
                        version = version.number.get(),
                        fault = %failure.fault(),
                        "instance died: {failure}"
                    );
                    serving.versions.report_lost_state(version, failure);
                }
                serving.versions.forget_if_ended(version);
            }
        }
    }
}

/// The stream of datagrams that a shared instance reads.
struct Incoming {
    serving: Arc<Serving>,
    version: Arc<Version>,
    /// Is ready when the version is replaced.
    replaced: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// `None` when the stream has ended.
    source: Arc<Mutex<Option<Source>>>,
    /// Whether the guest has read a datagram.
    has_read: bool,
    /// Takes the source, or why it failed.
    back: Option<oneshot::Sender<io::Result<Source>>>,
    progress: Arc<Progress>,
}

impl Incoming {
    fn new(
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
struct Outgoing {
    serving: Arc<Serving>,
    version: Arc<Version>,
    progress: Arc<Progress>,
    /// Dropped when the guest has ended the stream.
    _open: oneshot::Sender<()>,
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
