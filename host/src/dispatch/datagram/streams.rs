//! Streams of datagrams: `datagram-concurrent` handlers.
//!
//! Under `poll` one instance has the datagrams of all senders. When another version
//! replaces it, the stream that it reads ends, and the next version receives while this
//! one finishes. Under the other dispatches the stream has one datagram.

use super::each::Owned;
use super::ends::{Incoming, Outgoing};
use super::source::Source;
use super::{Arrived, Serving, depart, run_errand};
use crate::contract::Contract;
use crate::datagram::MAX_BATCH;
use crate::datagram::outbox::Outbox;
use crate::dispatch::{errands, fault};
use crate::guest::SHARED_INSTANCES;
use crate::guest::deadline::{Deadline, Watched};
use crate::guest::exports::DatagramConcurrent;
use crate::guest::exports::datagram_concurrent::{WitDatagram, datagram as to_wit};
use crate::guest::failure::Failure;
use crate::guest::instance::{Instance, Links, Prepared};
use crate::lifecycle::Phase;
use crate::sync::lock;
use crate::version::Version;
use crate::version::errands::{Errand, Ticks};
use crate::version::offer::GATHER;
use crate::version::share::Share;
use crate::version::succession::Departure;
use futures_util::task::AtomicWaker;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use wasmtime::component::{StreamProducer, StreamReader};

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
        let ticks = Arc::clone(&instances.ticks);
        let received = serving.receive(&mut source, &current, &ticks, MAX_BATCH);
        match received.await? {
            Arrived::Datagrams => {}
            Arrived::Nothing => {
                serving.keep_last(instances.ahead.take()).await;
                return Ok((source, false));
            }
            Arrived::Replaced => continue,
            Arrived::Departure(departure) => {
                depart(serving, &current, &mut instances.ahead, departure).await;
                continue;
            }
            Arrived::Errand(errand) => {
                run_errand(serving, &current, &mut instances.ahead, errand).await;
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
        let progress = Progress::new(&current, ticks, bytes.unwrap_or_default());
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
    /// The ticks of the version. The instance that receives is called.
    ticks: Arc<Ticks>,
    /// The instance that was made ahead, until the first datagram is there.
    ahead: Option<Instance<DatagramConcurrent>>,
}

impl Instances {
    fn of(version: Arc<Version>) -> Self {
        let permits = Arc::new(Semaphore::new(SHARED_INSTANCES as usize));
        let ticks = version.begin_ticks();
        let ahead = version.prepared().and_then(Prepared::instance);
        Self {
            version,
            permits,
            ticks,
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
    // `errands` calls what such instances do beside their datagram.
    let no_ticks = Arc::default();
    let progress = Progress::new(version, no_ticks, Arc::default());
    progress.reading.send_replace(false);
    serve(serving, version, None, incoming, &progress).await
}

/// Makes an instance, unless there is one, and calls its `serve`. Returns when the stream of
/// what it sends has ended.
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
                    errand = progress.errand(serving, version) => {
                        let (versions, watched) = (&serving.versions, &progress.watched);
                        errands::run_in(versions, version, watched, accessor, errand).await?;
                        continue;
                    }
                };
                progress.pause().await;
                let state = progress
                    .watched
                    .hold(pin!(keeper.save_in(accessor)))
                    .await?;
                departure.settle(state).await;
                progress.resume();
            }
            // An earlier version's instance may end late.
            if serving.versions.last_state.is_wanted() && serving.versions.is_current(version) {
                let last = progress.watched.hold(pin!(keeper.save_in(accessor))).await;
                serving.versions.last_state.keep(last);
            }
            Ok(())
        });
        match clock.count(pin!(call)).await {
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
pub(super) struct Progress {
    /// The datagrams that the guest read last.
    pub(super) share: Mutex<Option<Share>>,
    /// Bytes that the guest has taken and given, for its clock.
    pub(super) bytes: Arc<AtomicU64>,
    /// Whether the guest may still read datagrams.
    pub(super) reading: watch::Sender<bool>,
    /// What the guest has written and the sockets have not taken.
    pub(super) outbox: Mutex<Outbox>,
    /// The guest's task that waits until the outbox is empty.
    pub(super) room: AtomicWaker,
    /// Whether datagrams wait because the version departs.
    pub(super) paused: AtomicBool,
    /// The guest's task that reads meanwhile.
    pub(super) resumed: AtomicWaker,
    /// Notified when the guest reads on.
    pub(super) at_rest: Notify,
    /// The ticks of the version's instances.
    ticks: Arc<Ticks>,
    /// The calls of `instance-state` and `tick`.
    watched: Watched,
}

impl Progress {
    fn new(version: &Version, ticks: Arc<Ticks>, bytes: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self {
            share: Mutex::default(),
            bytes,
            reading: watch::Sender::new(true),
            outbox: Mutex::default(),
            room: AtomicWaker::new(),
            paused: AtomicBool::new(false),
            resumed: AtomicWaker::new(),
            at_rest: Notify::new(),
            ticks,
            watched: Watched::new(Deadline(version.handler.limits().deadline)),
        })
    }

    /// Waits until the guest may read no more datagrams.
    fn has_read_all(&self) -> impl Future<Output = ()> + use<> {
        let mut reading = self.reading.subscribe();
        async move {
            let _ = reading.wait_for(|reading| !reading).await;
        }
    }

    /// Waits for what the guest does beside its datagrams, as long as it may read some.
    /// Then it is the next instance's.
    async fn errand(&self, serving: &Serving, version: &Version) -> Errand {
        tokio::select! {
            biased;
            () = self.has_read_all() => pending().await,
            errand = version.next_errand(&serving.versions, &self.ticks), if version.has_errands() => errand,
        }
    }

    /// Waits until somebody asks for what the instance knows, as long as it may read
    /// datagrams.
    async fn departing(&self, version: &Version) -> Departure {
        tokio::select! {
            biased;
            () = self.has_read_all() => pending().await,
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
        let limits = serving.versions.limits();
        tokio::time::sleep(limits.drain_timeout.max(limits.deadline)).await;
    }

    /// Counts the datagrams that the guest read last, and logs how the instance ended.
    fn finish(&self, serving: &Serving, version: &Arc<Version>, outcome: &Result<(), Failure>) {
        match lock(&self.share).take() {
            Some(share) => serving.finish(share, outcome),
            None => {
                if let Err(failure) = outcome {
                    serving.report_death(version, failure);
                }
                serving.versions.forget_if_ended(version);
            }
        }
    }
}
