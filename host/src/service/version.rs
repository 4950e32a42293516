//! One version of a service's handler, from its activation to the end of its
//! last connection.
//!
//! A connection belongs to the version that was current when it was accepted. A
//! version that is no longer current drains; it may be told to abort.

use crate::guest::failure::Failure;
use crate::guest::handler::Handler;
use crate::service::Phase;
use crate::sockets::connection::Connection;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};
use tokio::sync::{Notify, mpsc, watch};

/// The number of a version that is only tried.
pub(crate) const PROBE: u32 = 0;

/// How a version came to be current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Start,
    Swap,
    Rollback,
}

pub(crate) struct Version {
    /// Counts up from 1 in each service.
    pub(crate) number: u32,
    pub(crate) handler: Arc<Handler>,
    pub(crate) origin: Origin,
    pub(crate) loaded_at: SystemTime,
    activated: Instant,
    phase: watch::Sender<Phase>,
    /// Where a shared instance takes its connections from. Gone when the version
    /// is no longer current.
    intake: Mutex<Option<mpsc::UnboundedSender<Arc<Connection>>>>,
    open: AtomicU64,
    /// Told when the last connection has closed.
    emptied: Notify,
    handled: AtomicU64,
    failures: Failures,
    /// Why it is no longer current, if that was not asked for.
    ended_because: Mutex<Option<String>>,
}

/// Failed connections, by reason.
#[derive(Default)]
pub(crate) struct Failures {
    error: AtomicU64,
    trap: AtomicU64,
    deadline: AtomicU64,
    memory: AtomicU64,
    instantiate: AtomicU64,
    host: AtomicU64,
    peer: AtomicU64,
    aborted: AtomicU64,
}

/// Failed connections, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FailureCounts {
    /// The handler returned an error.
    pub error: u64,
    /// The guest trapped.
    pub trap: u64,
    /// The guest computed past its deadline.
    pub deadline: u64,
    /// The guest asked for more memory than it may have.
    pub memory: u64,
    /// No instance could be made: the connection was refused.
    pub instantiate: u64,
    /// The host had no room for an instance, or failed: the connection was
    /// refused.
    pub host: u64,
    /// The peer reset the connection, or the network lost it.
    pub peer: u64,
    /// The host closed the connection to end the version or the service.
    pub aborted: u64,
}

impl Failures {
    fn count(&self, failure: &Failure) {
        let counter = match failure {
            Failure::Guest(_) => &self.error,
            Failure::Trap(_) => &self.trap,
            Failure::Deadline(_) => &self.deadline,
            Failure::Memory(_) => &self.memory,
            Failure::Instantiate(_) => &self.instantiate,
            Failure::Host(_) => &self.host,
            Failure::Peer(_) => &self.peer,
            Failure::Aborted => &self.aborted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn counts(&self) -> FailureCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FailureCounts {
            error: get(&self.error),
            trap: get(&self.trap),
            deadline: get(&self.deadline),
            memory: get(&self.memory),
            instantiate: get(&self.instantiate),
            host: get(&self.host),
            peer: get(&self.peer),
            aborted: get(&self.aborted),
        }
    }
}

impl FailureCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_handler() + self.host + self.peer + self.aborted
    }

    /// Those that speak against the handler.
    pub(crate) fn by_handler(&self) -> u64 {
        self.error + self.trap + self.deadline + self.memory + self.instantiate
    }

    /// Adds another version's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.error += other.error;
        self.trap += other.trap;
        self.deadline += other.deadline;
        self.memory += other.memory;
        self.instantiate += other.instantiate;
        self.host += other.host;
        self.peer += other.peer;
        self.aborted += other.aborted;
    }
}

impl Version {
    pub(crate) fn new(number: u32, handler: Arc<Handler>, origin: Origin) -> Arc<Self> {
        Arc::new(Self {
            number,
            handler,
            origin,
            loaded_at: SystemTime::now(),
            activated: Instant::now(),
            phase: watch::Sender::new(Phase::Serving),
            intake: Mutex::default(),
            open: AtomicU64::new(0),
            emptied: Notify::new(),
            handled: AtomicU64::new(0),
            failures: Failures::default(),
            ended_because: Mutex::default(),
        })
    }

    /// When it became current.
    pub(crate) fn activated(&self) -> Instant {
        self.activated
    }

    /// Connections on it, those being closed included.
    pub(crate) fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    pub(crate) fn failures(&self) -> FailureCounts {
        self.failures.counts()
    }

    /// Counts a connection that begins on it. False, and nothing counted, if it
    /// takes no more.
    ///
    /// Counting before looking is what lets a version that has ended be
    /// forgotten: whoever sees it retired sees its connections too.
    pub(crate) fn begin(&self) -> bool {
        self.open.fetch_add(1, Ordering::Relaxed);
        let takes_more = *self.phase.borrow() == Phase::Serving;
        if !takes_more {
            self.closed();
        }
        takes_more
    }

    /// Counts how a connection's handler ended.
    pub(crate) fn count(&self, outcome: &Result<(), Failure>) {
        match outcome {
            Ok(()) => {
                self.handled.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) => self.failures.count(failure),
        }
    }

    /// Whether it takes no more connections and has none.
    pub(crate) fn has_ended(&self) -> bool {
        self.open() == 0 && *self.phase.borrow() != Phase::Serving
    }

    pub(crate) fn closed(&self) {
        if self.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.emptied.notify_one();
        }
    }

    /// Waits until it has no connections. For one waiter.
    pub(crate) async fn emptied(&self) {
        while self.open() > 0 {
            self.emptied.notified().await;
        }
    }

    /// Opens the way to the version's shared instance.
    pub(crate) fn open_intake(&self) -> mpsc::UnboundedReceiver<Arc<Connection>> {
        // Bounded by the permits.
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.intake() = Some(sender);
        receiver
    }

    /// Gives a connection to the version's shared instance, or back if the
    /// version takes no more.
    pub(crate) fn take_in(&self, connection: Arc<Connection>) -> Result<(), Arc<Connection>> {
        let intake = self.intake();
        let Some(intake) = &*intake else {
            return Err(connection);
        };
        self.open.fetch_add(1, Ordering::Relaxed);
        intake.send(connection).map_err(|refused| {
            self.closed();
            refused.0
        })
    }

    /// No more connections; open ones finish.
    pub(crate) fn retire(&self, reason: Option<&str>) {
        *self.intake() = None;
        if let Some(reason) = reason {
            *self
                .ended_because
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
        self.enter(Phase::Draining);
    }

    pub(crate) fn ended_because(&self) -> Option<String> {
        self.ended_because
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Closes every connection.
    pub(crate) fn abort(&self) {
        *self.intake() = None;
        self.enter(Phase::Aborting);
    }

    /// Waits until the version has come to `phase`.
    pub(crate) async fn reached(&self, phase: Phase) {
        Phase::reached(&self.phase, phase).await;
    }

    fn enter(&self, phase: Phase) {
        Phase::advance(&self.phase, phase);
    }

    fn intake(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<Arc<Connection>>>> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
