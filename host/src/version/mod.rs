//! One version of a service's handler, from its activation to the end of its last
//! connection.
//!
//! A connection belongs to the version that was current when it was accepted, until it
//! is handed over. A version that is no longer current drains. It may ask its
//! connections to go to a later version, and it may be told to abort. This module
//! counts and queues; it calls no guest.
//!
//! | file | |
//! | --- | --- |
//! | `versions` | all versions of a service, and which one is current |
//! | `stay` | a connection as a version counts it |
//! | `share` | datagrams as a version counts them |
//! | `entrance` | how connections come to a shared instance |
//! | `asking` | how connections are asked to leave, in groups |
//! | `offer` | a connection on its way to another version: its life, drawn |
//! | `workers` | a runtime for versions that need another than their service's |
//! | `canary` | a version that gets a share of the new connections |
//! | `succession` | what a shared instance knows, on its way to another |
//! | `idle` | instances between two connections |
//! | `errands` | the calls of `error` and `tick` that are due |
//! | `ending` | the end of a connection |
//! | `counts` | how connections ended |
//! | `latency` | how long calls took |
//! | `access` | a line of the log per connection |

pub(crate) mod access;
pub(crate) mod asking;
pub(crate) mod canary;
pub(crate) mod counts;
mod ending;
pub(crate) mod entrance;
pub(crate) mod errands;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod offer;
pub(crate) mod share;
pub(crate) mod stay;
pub(crate) mod succession;
pub(crate) mod versions;
pub(crate) mod workers;

use crate::connection::Connection;
use crate::guest::failure::Failure;
use crate::guest::handler::Handler;
use crate::lifecycle::{Life, Phase, VersionNumber};
use crate::sync::lock;
use crate::version::asking::Asking;
use crate::version::counts::{FailureCounts, Failures, HandOverCounts};
use crate::version::entrance::{Entrance, Gate};
use crate::version::errands::Errands;
use crate::version::idle::Idle;
use crate::version::stay::{Admitted, Stay};
use crate::version::succession::Succession;
use crate::version::versions::Versions;
use crate::version::workers::Workers;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How a version came to be current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was the first version.
    Start,
    /// A swap put it in the place of the version before, or a rollback went to a
    /// condemned component. It is on trial.
    Swap,
    /// A rollback went back to its component, which is not condemned.
    Rollback,
    /// A probe tries it. It never becomes current.
    Probe,
}

/// One version of a handler, with its counts. The module's documentation says how long
/// it lives.
pub(crate) struct Version {
    /// Counts up in each service. A version that a probe tries has the number that it
    /// would get.
    pub(crate) number: VersionNumber,
    pub(crate) handler: Arc<Handler>,
    pub(crate) origin: Origin,
    /// When the version was made.
    pub(crate) loaded_at: SystemTime,
    /// When it became current, or was made to.
    activated: Mutex<Instant>,
    /// The runtime for its tasks. Empty if that is the service's.
    workers: OnceLock<Arc<Workers>>,
    life: Life,
    /// How what the shared instance knows comes and goes.
    succession: Succession,
    /// The entrance of the shared instance. `None` if the version has no such instance,
    /// or is no longer current.
    entrance: Mutex<Option<Entrance>>,
    /// Keeps this version's accepted connections waiting until the version before has
    /// offered its own.
    gate: Mutex<Option<Gate>>,
    /// The gate of the next version, until this version has offered its own
    /// connections.
    next_gate: Mutex<Option<Gate>>,
    /// The version that the connections are asked to go to. `None` until they are
    /// asked.
    asked: watch::Sender<Option<VersionNumber>>,
    /// How the connections of isolated instances learn that.
    asking: Asking,
    /// Connections on this version, those being closed included.
    open: AtomicU64,
    /// Open connections whose handler is done.
    closing: AtomicU64,
    /// Connections that this version is offered and has not decided about.
    offered: AtomicU64,
    /// Connections that went to another version.
    handed_over: AtomicU64,
    /// Connections that this version was offered and did not take.
    refused: AtomicU64,
    /// Connections that did not leave when they were last asked.
    staying: AtomicU64,
    /// Connections that had failed when the version last asked.
    failed_before: AtomicU64,
    /// Notified when the last connection closes, and when a connection stays. After
    /// `ask` also whenever a connection closes, or its handler is done.
    fewer: Notify,
    /// Notified when a connection of this version has failed. Shared with the service,
    /// which decides whether to roll back.
    failed: Arc<Notify>,
    /// Notified when a handler of this version has ended, however. One task waits for it,
    /// as long as the version is a canary.
    another_ended: Notify,
    /// Connections whose handler ended with success.
    handled: AtomicU64,
    /// Connections that the handler did not let in.
    refused_by_handler: AtomicU64,
    failures: Failures,
    /// The calls of the handler that are due beside its connections.
    errands: Errands,
    /// Instances that wait for another connection. None of a shared one.
    pub(crate) idle: Arc<Idle>,
    /// Why the version was rolled back. `None` if it was not.
    ended_because: Mutex<Option<String>>,
}

impl Version {
    /// Makes a version that takes connections.
    pub(crate) fn new(
        number: VersionNumber,
        handler: Arc<Handler>,
        origin: Origin,
        failed: Arc<Notify>,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            handler,
            origin,
            loaded_at: SystemTime::now(),
            activated: Mutex::new(Instant::now()),
            workers: OnceLock::new(),
            life: Life::new(),
            succession: Succession::default(),
            entrance: Mutex::default(),
            gate: Mutex::default(),
            next_gate: Mutex::default(),
            asked: watch::Sender::new(None),
            asking: Asking::default(),
            open: AtomicU64::new(0),
            closing: AtomicU64::new(0),
            offered: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            staying: AtomicU64::new(0),
            failed_before: AtomicU64::new(0),
            fewer: Notify::new(),
            failed,
            another_ended: Notify::new(),
            handled: AtomicU64::new(0),
            refused_by_handler: AtomicU64::new(0),
            failures: Failures::default(),
            errands: Errands::default(),
            idle: Arc::default(),
            ended_because: Mutex::default(),
        })
    }

    /// Sets a runtime for its tasks, before the first of them.
    pub(crate) fn work_on(&self, workers: Arc<Workers>) {
        let _ = self.workers.set(workers);
    }

    /// The runtime for its tasks. `None` if that is the service's.
    pub(crate) fn workers(&self) -> Option<Arc<Workers>> {
        self.workers.get().map(Arc::clone)
    }

    /// Runs a task of this version on its threads.
    pub(crate) fn spawn_task(
        &self,
        versions: &Versions,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        match self.workers.get() {
            Some(workers) => workers.spawn(task),
            None => versions.spawn_task(task),
        }
    }

    /// Calls `make` inside the version's runtime, so that `make` can register descriptors
    /// with the poller.
    pub(crate) fn in_runtime<R>(
        &self,
        versions: &Versions,
        make: impl FnOnce() -> R,
    ) -> io::Result<R> {
        match self.workers.get() {
            Some(workers) => Ok(workers.in_runtime(make)),
            None => versions.in_runtime(make),
        }
    }

    /// Whether a probe tries the version.
    pub(crate) fn is_probe(&self) -> bool {
        self.origin == Origin::Probe
    }

    /// When the version was made, which is just before it becomes current; or when it
    /// became current, if it was a canary before.
    pub(crate) fn activated(&self) -> Instant {
        *lock(&self.activated)
    }

    /// Notes that a version that was a canary becomes current.
    pub(super) fn activate(&self) {
        *lock(&self.activated) = Instant::now();
    }

    /// Connections on this version, those being closed included.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    /// Connections whose handler ended with success.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// Connections that the handler did not let in.
    pub(crate) fn refused_by_handler(&self) -> u64 {
        self.refused_by_handler.load(Ordering::Relaxed)
    }

    /// Connections that failed, by reason.
    pub(crate) fn failures(&self) -> FailureCounts {
        self.failures.counts()
    }

    /// Counts a connection on this version. Gives it back if the version takes no more.
    ///
    /// The connection is counted before the phase is read. So a version that is seen as
    /// retired shows all its connections, and can be forgotten when it shows none.
    pub(crate) fn admit(
        self: &Arc<Self>,
        connection: Arc<Connection>,
    ) -> Result<Admitted, Arc<Connection>> {
        let stay = Stay::new(self);
        connection.record().set_version(self.number);
        if self.is_serving() {
            Ok(Admitted { connection, stay })
        } else {
            stay.withdraw();
            Err(connection)
        }
    }

    /// Counts how the handler of connections or datagrams ended.
    pub(super) fn count(&self, outcome: &Result<(), Failure>, count: u64) {
        match outcome {
            Ok(()) => {
                self.handled.fetch_add(count, Ordering::Relaxed);
            }
            Err(Failure::Unverified(_)) => {
                self.refused_by_handler.fetch_add(count, Ordering::Relaxed);
            }
            Err(failure) => {
                self.failures.count(failure, count);
                self.failed.notify_one();
            }
        }
        self.another_ended.notify_one();
    }

    /// Waits until a handler of this version has ended since the last call. Cancel-safe.
    pub(crate) async fn another_ended(&self) {
        self.another_ended.notified().await;
    }

    /// Whether the version takes no more connections, has none, and is offered none.
    pub(crate) fn has_ended(&self) -> bool {
        // Read in this order: an accepted offer is counted as open before it is no
        // longer counted as offered.
        !self.is_serving() && self.offered.load(Ordering::Acquire) == 0 && self.open() == 0
    }

    /// Counts a connection that is on this version from now on.
    pub(super) fn count_open(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection whose handler is done.
    pub(super) fn count_closing(&self) {
        self.closing.fetch_add(1, Ordering::Relaxed);
        if self.asks_for().is_some() {
            self.fewer.notify_waiters();
        }
    }

    /// Connections on this version whose handler is not done.
    pub(crate) fn served(&self) -> u64 {
        let closing = self.closing.load(Ordering::Relaxed);
        self.open().saturating_sub(closing)
    }

    /// Counts a connection that is no longer on this version.
    pub(super) fn count_gone(&self, was_closing: bool) {
        if was_closing {
            self.closing.fetch_sub(1, Ordering::Relaxed);
        }
        // A thread that sees the connection gone sees its other counts too.
        let last = self.open.fetch_sub(1, Ordering::Release) == 1;
        if last || self.asks_for().is_some() {
            self.fewer.notify_waiters();
        }
    }

    /// Counts a connection that was asked to leave, and stays.
    pub(crate) fn count_staying(&self) {
        self.staying.fetch_add(1, Ordering::Relaxed);
        self.fewer.notify_waiters();
    }

    /// Waits until the version has no connections.
    pub(crate) async fn emptied(&self) {
        self.reduced(|| self.open() == 0).await;
    }

    /// Waits until the version serves only connections that were asked to leave and
    /// stay.
    pub(crate) async fn left(&self) {
        self.reduced(|| self.served() <= self.staying.load(Ordering::Relaxed))
            .await;
    }

    /// Waits until `is_reduced`, which is called again whenever `fewer` is notified.
    async fn reduced(&self, is_reduced: impl Fn() -> bool) {
        loop {
            let mut fewer = pin!(self.fewer.notified());
            // From here on no notification is missed.
            fewer.as_mut().enable();
            if is_reduced() {
                return;
            }
            fewer.await;
        }
    }

    /// Whether the version takes new connections.
    pub(crate) fn is_serving(&self) -> bool {
        self.life.phase() == Phase::Serving
    }

    /// Counts a connection that this version is offered.
    pub(crate) fn count_offered(&self) {
        self.offered.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an offered connection that was accepted as open on this version.
    pub(crate) fn admit_offered(self: &Arc<Self>, connection: Arc<Connection>) -> Admitted {
        let stay = Stay::new(self);
        connection.record().set_version(self.number);
        self.count_decided();
        Admitted { connection, stay }
    }

    /// Counts an offered connection that was refused.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.count_decided();
    }

    /// Counts an offered connection as no longer offered.
    pub(crate) fn count_decided(&self) {
        self.offered.fetch_sub(1, Ordering::Release);
    }

    /// Counts a connection that has gone to another version.
    pub(super) fn count_handed_over(&self) {
        self.handed_over.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that went to another version, and those that this version was
    /// offered and did not take.
    pub(crate) fn hand_overs(&self) -> HandOverCounts {
        HandOverCounts {
            handed_over: self.handed_over.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Asks the connections to go to the version `to`. Does nothing if they were asked
    /// to go to that one, or to a later one.
    pub(crate) fn ask(&self, to: VersionNumber) {
        self.asked.send_if_modified(|asked| {
            let later = Some(to) > *asked;
            if later {
                // All connections are asked anew.
                self.staying.store(0, Ordering::Relaxed);
                self.failed_before
                    .store(self.failures().total(), Ordering::Relaxed);
                *asked = Some(to);
            }
            later
        });
    }

    /// Connections that failed since they were last asked to leave.
    pub(crate) fn lost(&self) -> u64 {
        let before = self.failed_before.load(Ordering::Relaxed);
        self.failures().total().saturating_sub(before)
    }

    /// The version that the connections are asked to go to. `None` if they are not
    /// asked.
    pub(crate) fn asks_for(&self) -> Option<VersionNumber> {
        *self.asked.borrow()
    }

    /// Waits until the connections are asked to go to a version later than `after`.
    /// Returns that version's number. Cancel-safe.
    pub(crate) async fn asked_after(&self, after: Option<VersionNumber>) -> VersionNumber {
        let mut asked = self.asked.subscribe();
        let to = asked.wait_for(|to| *to > after).await.map(|to| *to);
        match to {
            Ok(Some(to)) => to,
            // This version has the sender, so the channel cannot be closed.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// Takes no more connections, and lets open ones finish. `reason` says why, if this
    /// is a rollback.
    pub(crate) fn retire(&self, reason: Option<&str>) {
        *lock(&self.entrance) = None;
        if let Some(reason) = reason {
            *lock(&self.ended_because) = Some(reason.to_owned());
        }
        self.enter(Phase::Draining);
        self.idle.close();
    }

    /// Why the version was rolled back. `None` if it was not.
    pub(crate) fn ended_because(&self) -> Option<String> {
        lock(&self.ended_because).clone()
    }

    /// Takes no more connections, and closes the open ones.
    pub(crate) fn abort(&self) {
        *lock(&self.entrance) = None;
        self.enter(Phase::Aborting);
        self.idle.close();
    }

    /// Whether the version closes its open connections.
    fn is_aborting(&self) -> bool {
        self.life.phase() == Phase::Aborting
    }

    /// Waits until the version takes no more connections and has none.
    pub(crate) async fn ended(&self) {
        self.reached(Phase::Draining).await;
        self.emptied().await;
    }

    /// Waits until the version has reached `phase`.
    pub(crate) async fn reached(&self, phase: Phase) {
        self.life.reached(phase).await;
    }

    fn enter(&self, phase: Phase) {
        self.life.advance(phase);
    }
}
