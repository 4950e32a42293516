//! What a handler does beside its connections: the calls of `error` and `tick` that are due.
//!
//! Both outlive an instance. The version keeps the failures: one that ends an instance is
//! told to the next. The driver of an event loop has its [`Ticks`]. It takes one errand at a
//! time; the calls are in `dispatch::errands`.

use crate::connection::Connection;
use crate::connection::record::Cut;
use crate::guest::failure::Failure;
use crate::guest::life_cycle::FailedConnection;
use crate::lifecycle::Phase;
use crate::sync::lock;
use crate::version::Version;
use crate::version::versions::Versions;
use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How many failures may wait to be told. The contract says so.
const MAX_FAILURES: usize = 1024;

/// A call that is due.
pub(crate) enum Errand {
    /// A connection has failed, and the handler is told.
    Error(Box<FailedConnection>),
    /// The time between two ticks is over. When the call of the handler has returned,
    /// the next one is planned anew.
    Tick(Arc<Ticks>),
}

/// What a version has of this.
#[derive(Default)]
pub(super) struct Errands {
    failures: Mutex<Failures>,
    /// Notified when there is another failure.
    more: Notify,
}

/// When the next tick of one event loop is due. By default there are none.
#[derive(Default)]
pub(crate) struct Ticks {
    /// `None` if there are none.
    interval: Option<Duration>,
    /// `None` if there are no more.
    next_at: Mutex<Option<Instant>>,
}

/// Failures that the handler is not told of yet.
#[derive(Default)]
struct Failures {
    waiting: VecDeque<Box<FailedConnection>>,
    /// Whether the handler is told of no more, because a call has failed.
    is_over: bool,
    /// Whether the log says already that there are too many.
    is_reported: bool,
}

/// A call of `error`. If this is dropped before the call has ended well, it was the last one
/// of the version.
pub(crate) struct Telling<'a> {
    version: &'a Version,
    service: &'a str,
    has_ended: bool,
}

impl Version {
    /// Whether there may be errands. A probe has none.
    pub(crate) fn has_errands(&self) -> bool {
        !self.is_probe() && (self.handler.takes_errors() || self.handler.tick_interval().is_some())
    }

    /// Whether the handler decides which peers come in. It does not decide about a probe.
    pub(crate) fn verifies(&self) -> bool {
        !self.is_probe() && self.handler.verifies()
    }

    /// Begins to wait for the first tick of an event loop.
    pub(crate) fn begin_ticks(&self) -> Arc<Ticks> {
        let ticks = Ticks {
            interval: self.handler.tick_interval(),
            next_at: Mutex::default(),
        };
        ticks.plan();
        Arc::new(ticks)
    }

    /// Waits for the next errand of the event loop that has these ticks. Cancel-safe.
    pub(crate) async fn next_errand(&self, versions: &Versions, ticks: &Arc<Ticks>) -> Errand {
        loop {
            if let Some(failed) = self.next_failure() {
                return Errand::Error(failed);
            }
            tokio::select! {
                biased;
                () = self.errands.more.notified() => {}
                () = self.tick_is_due(versions, ticks) => return ticks.take(),
            }
        }
    }

    /// Waits until the next tick is due. Never returns if there is none, or no more.
    async fn tick_is_due(&self, versions: &Versions, ticks: &Ticks) {
        let at = match ticks.next_at() {
            Some(at) => at,
            None => pending().await,
        };
        tokio::select! {
            biased;
            () = self.reached(Phase::Draining) => pending().await,
            () = versions.reached(Phase::Draining) => pending().await,
            () = sleep_until(at) => {}
        }
    }

    /// Notes that a connection of this version has failed, if the handler is told of it.
    pub(super) fn note_failure(
        &self,
        service: &str,
        connection: &Arc<Connection>,
        failure: &Failure,
    ) {
        let is_untold = matches!(
            failure,
            Failure::Unverified(_)
                | Failure::Instantiate(_)
                | Failure::Cut(Cut::Killed)
                | Failure::Aborted
        );
        if is_untold || !self.handler.takes_errors() || self.is_probe() {
            return;
        }
        let Some(failed) = FailedConnection::new(connection, failure) else {
            return;
        };
        let mut failures = lock(&self.errands.failures);
        if failures.is_over {
            return;
        }
        if failures.waiting.len() < MAX_FAILURES {
            failures.waiting.push_back(Box::new(failed));
            drop(failures);
            self.errands.more.notify_one();
        } else if !std::mem::replace(&mut failures.is_reported, true) {
            tracing::warn!(
                service,
                version = self.number.get(),
                "{MAX_FAILURES} failures wait to be told to the handler, and later ones are not"
            );
        }
    }

    fn next_failure(&self) -> Option<Box<FailedConnection>> {
        let mut failures = lock(&self.errands.failures);
        let next = failures.waiting.pop_front();
        if next.is_none() {
            failures.is_reported = false;
        }
        next
    }

    /// A call of `error` begins.
    pub(crate) fn begin_telling<'a>(&'a self, service: &'a str) -> Telling<'a> {
        Telling {
            version: self,
            service,
            has_ended: false,
        }
    }
}

impl Ticks {
    /// Returns the next tick if it is due already.
    pub(crate) fn take_due(self: &Arc<Self>) -> Option<Errand> {
        let is_due = self.next_at().is_some_and(|at| at <= Instant::now());
        is_due.then(|| self.take())
    }

    /// Plans the next tick, an interval from now.
    pub(crate) fn plan(&self) {
        let after = |interval| Instant::now().checked_add(interval);
        *lock(&self.next_at) = self.interval.and_then(after);
    }

    /// Returns the tick that is due. The next tick is planned here, too: the call may never
    /// return.
    fn take(self: &Arc<Self>) -> Errand {
        self.plan();
        Errand::Tick(Arc::clone(self))
    }

    fn next_at(&self) -> Option<Instant> {
        *lock(&self.next_at)
    }
}

impl Telling<'_> {
    /// The call has ended. An instance that could not be made is not its failure.
    pub(crate) fn end(mut self, result: &Result<(), Failure>) {
        self.has_ended = matches!(
            result,
            Ok(()) | Err(Failure::Instantiate(_) | Failure::Host(_) | Failure::Aborted)
        );
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        let mut failures = lock(&self.version.errands.failures);
        failures.is_over = true;
        failures.waiting.clear();
        drop(failures);
        if !self.version.is_aborting() {
            tracing::warn!(
                service = self.service,
                version = self.version.number.get(),
                "a call of `error` has failed, and the handler is told of no more failures"
            );
        }
    }
}
