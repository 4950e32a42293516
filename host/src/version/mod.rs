//! One version of a service's handler, from its activation to the end of its
//! last connection.
//!
//! A connection belongs to the version that was current when it was accepted,
//! until it is handed over. A version that is no longer current drains; it may
//! ask its connections to leave, and be told to abort.

pub(crate) mod counts;
mod ending;
pub(crate) mod entrance;
pub(crate) mod offer;
pub(crate) mod stay;
pub(crate) mod versions;

use crate::connection::Connection;
use crate::guest::failure::Failure;
use crate::guest::handler::Handler;
use crate::lifecycle::{Phase, VersionNumber};
use crate::sync::lock;
use crate::version::counts::{FailureCounts, Failures, HandOverCounts};
use crate::version::entrance::{Entrance, Gate, Intake};
use crate::version::offer::Offer;
use crate::version::stay::{Admitted, Stay};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// How a version came to be current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Start,
    Swap,
    Rollback,
    /// It is not current and never will be: a probe tries it.
    Probe,
}

pub(crate) struct Version {
    /// Counts up in each service. A version that is only tried has the number that
    /// it will have when it becomes current.
    pub(crate) number: VersionNumber,
    pub(crate) handler: Arc<Handler>,
    pub(crate) origin: Origin,
    pub(crate) loaded_at: SystemTime,
    activated: Instant,
    phase: watch::Sender<Phase>,
    /// Where a shared instance takes its connections from. Gone when the version
    /// is no longer current.
    entrance: Mutex<Option<Entrance>>,
    /// Keeps its accepted connections waiting, until the version before has
    /// offered its own.
    gate: Mutex<Option<Gate>>,
    /// The gate of the version after, until it has offered its own.
    next_gate: Mutex<Option<Gate>>,
    /// The version that its connections are to go to, once they are asked to leave.
    asked: watch::Sender<Option<VersionNumber>>,
    open: AtomicU64,
    /// Those of the open ones whose handler is done.
    closing: AtomicU64,
    /// Connections that it is offered.
    expected: AtomicU64,
    handed_over: AtomicU64,
    refused: AtomicU64,
    /// Connections that did not leave when they were last asked.
    staying: AtomicU64,
    /// Connections that had failed when it last asked.
    failed_before: AtomicU64,
    /// Notified when the last connection closes, and after the version was asked
    /// to hand over whenever one closes.
    fewer: Notify,
    /// Notified when a connection of it has failed; shared with the service, which
    /// decides whether it is rolled back.
    failed: Arc<Notify>,
    handled: AtomicU64,
    failures: Failures,
    /// Why it is no longer current, if that was not asked for.
    ended_because: Mutex<Option<String>>,
}

impl Version {
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
            activated: Instant::now(),
            phase: watch::Sender::new(Phase::Serving),
            entrance: Mutex::default(),
            gate: Mutex::default(),
            next_gate: Mutex::default(),
            asked: watch::Sender::new(None),
            open: AtomicU64::new(0),
            closing: AtomicU64::new(0),
            expected: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            staying: AtomicU64::new(0),
            failed_before: AtomicU64::new(0),
            fewer: Notify::new(),
            failed,
            handled: AtomicU64::new(0),
            failures: Failures::default(),
            ended_because: Mutex::default(),
        })
    }

    /// Whether it is only tried.
    pub(crate) fn is_probe(&self) -> bool {
        self.origin == Origin::Probe
    }

    /// When it became current.
    pub(crate) fn activated(&self) -> Instant {
        self.activated
    }

    /// Connections on it, those being closed included.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    pub(crate) fn failures(&self) -> FailureCounts {
        self.failures.counts()
    }

    /// Admits a connection, or gives it back if the version takes no more.
    ///
    /// Counting before looking is what lets a version that has ended be
    /// forgotten: whoever sees it retired sees its connections too.
    pub(crate) fn admit(
        self: &Arc<Self>,
        connection: Arc<Connection>,
    ) -> Result<Admitted, Arc<Connection>> {
        let stay = Stay::new(self);
        if self.is_serving() {
            Ok(Admitted { connection, stay })
        } else {
            stay.withdraw();
            Err(connection)
        }
    }

    /// Counts how a connection's handler ended.
    pub(super) fn count(&self, outcome: &Result<(), Failure>) {
        match outcome {
            Ok(()) => {
                self.handled.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) => {
                self.failures.count(failure);
                self.failed.notify_one();
            }
        }
    }

    /// Whether it takes no more connections, and has and expects none.
    pub(crate) fn has_ended(&self) -> bool {
        // In this order: an arrival is counted as open before it is no longer
        // expected.
        !self.is_serving() && self.expected.load(Ordering::Acquire) == 0 && self.open() == 0
    }

    /// Counts a connection that is on it from now on.
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

    /// Connections on it whose handler is not done.
    pub(crate) fn served(&self) -> u64 {
        let closing = self.closing.load(Ordering::Relaxed);
        self.open().saturating_sub(closing)
    }

    /// Counts a connection that is on it no longer.
    pub(super) fn count_gone(&self, was_closing: bool) {
        if was_closing {
            self.closing.fetch_sub(1, Ordering::Relaxed);
        }
        // Whoever sees it gone sees its counts.
        let last = self.open.fetch_sub(1, Ordering::Release) == 1;
        if last || self.asks_for().is_some() {
            self.fewer.notify_waiters();
        }
    }

    /// A connection was asked to leave, and stays.
    pub(crate) fn count_staying(&self) {
        self.staying.fetch_add(1, Ordering::Relaxed);
        self.fewer.notify_waiters();
    }

    /// Waits until it has no connections.
    pub(crate) async fn emptied(&self) {
        self.reduced(|| self.open() == 0).await;
    }

    /// Waits until it has no connections but those that were asked to leave and
    /// stay.
    pub(crate) async fn left(&self) {
        self.reduced(|| self.served() <= self.staying.load(Ordering::Relaxed))
            .await;
    }

    async fn reduced(&self, is_reduced: impl Fn() -> bool) {
        loop {
            let mut fewer = pin!(self.fewer.notified());
            // From here on none is missed.
            fewer.as_mut().enable();
            if is_reduced() {
                return;
            }
            fewer.await;
        }
    }

    /// Opens the way to the version's shared instance. Its gate is shut.
    pub(crate) fn open_intake(&self) -> Intake {
        let (entrance, intake, gate) = entrance::open();
        *lock(&self.entrance) = Some(entrance);
        *lock(&self.gate) = Some(gate);
        intake
    }

    /// Lets accepted connections in, unless another version holds the gate too.
    pub(crate) fn open_gate(&self) {
        *lock(&self.gate) = None;
    }

    /// Holds the gate of `next` until it has offered its connections or has
    /// ended.
    pub(crate) fn hold_gate_of(&self, next: &Self) {
        let gate = lock(&next.gate).clone();
        *lock(&self.next_gate) = gate;
    }

    pub(crate) fn release_next_gate(&self) {
        *lock(&self.next_gate) = None;
    }

    /// Gives a connection to the version's shared instance, or back if the
    /// version takes no more.
    pub(crate) fn queue(
        self: &Arc<Self>,
        connection: Arc<Connection>,
    ) -> Result<(), Arc<Connection>> {
        let entrance = lock(&self.entrance);
        let Some(entrance) = &*entrance else {
            return Err(connection);
        };
        let stay = Stay::new(self);
        let admitted = Admitted { connection, stay };
        entrance.accepted(admitted).map_err(|refused| {
            refused.stay.withdraw();
            refused.connection
        })
    }

    /// Gives offers to the version's shared instance, or back if the version
    /// takes no more.
    pub(crate) fn queue_offers(&self, offers: Vec<Offer>) -> Result<(), Vec<Offer>> {
        match &*lock(&self.entrance) {
            Some(entrance) => entrance.offers(offers),
            None => Err(offers),
        }
    }

    /// Whether new connections go to it.
    pub(crate) fn is_serving(&self) -> bool {
        *self.phase.borrow() == Phase::Serving
    }

    /// Counts a connection that it is offered.
    pub(crate) fn count_offered(&self) {
        self.expected.fetch_add(1, Ordering::Relaxed);
    }

    /// An offered connection was accepted.
    pub(crate) fn admit_offered(self: &Arc<Self>, connection: Arc<Connection>) -> Admitted {
        let stay = Stay::new(self);
        self.count_withdrawn();
        Admitted { connection, stay }
    }

    /// An offered connection was refused.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.count_withdrawn();
    }

    /// An offered connection is offered no longer.
    pub(crate) fn count_withdrawn(&self) {
        self.expected.fetch_sub(1, Ordering::Release);
    }

    /// Counts a connection that has gone to another version.
    pub(super) fn count_handed_over(&self) {
        self.handed_over.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that have gone to another version, and ones that it was
    /// offered and would not have.
    pub(crate) fn hand_overs(&self) -> HandOverCounts {
        HandOverCounts {
            handed_over: self.handed_over.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }

    /// Asks its connections to go to the version with the number `to`.
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

    /// The version that its connections are asked to go to, if they are.
    pub(crate) fn asks_for(&self) -> Option<VersionNumber> {
        *self.asked.borrow()
    }

    /// Waits until its connections are asked to go to a version later than
    /// `after`.
    pub(crate) async fn asked_after(&self, after: Option<VersionNumber>) -> VersionNumber {
        let mut asked = self.asked.subscribe();
        let to = asked.wait_for(|to| *to > after).await.map(|to| *to);
        match to {
            Ok(Some(to)) => to,
            // It has the sender, so the channel cannot be closed.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    pub(crate) fn asked(&self) -> watch::Receiver<Option<VersionNumber>> {
        self.asked.subscribe()
    }

    /// No more connections; open ones finish.
    pub(crate) fn retire(&self, reason: Option<&str>) {
        *lock(&self.entrance) = None;
        if let Some(reason) = reason {
            *lock(&self.ended_because) = Some(reason.to_owned());
        }
        self.enter(Phase::Draining);
    }

    pub(crate) fn ended_because(&self) -> Option<String> {
        lock(&self.ended_because).clone()
    }

    /// Closes every connection.
    pub(crate) fn abort(&self) {
        *lock(&self.entrance) = None;
        self.enter(Phase::Aborting);
    }

    /// Waits until the version has come to `phase`.
    pub(crate) async fn reached(&self, phase: Phase) {
        Phase::reached(&self.phase, phase).await;
    }

    fn enter(&self, phase: Phase) {
        Phase::advance(&self.phase, phase);
    }
}
