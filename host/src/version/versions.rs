//! All versions of a service's handler: which one is current, which ones still have
//! connections, and what they share.
//!
//! This is the lower half of a service, which dispatches work with. It lives as long as
//! the service, or as long as the last task or handle that uses it. It knows nothing of
//! swaps, listeners or rollbacks; those are in `service`, which owns it.

use super::access::AccessLog;
use super::counts::{FailureCounts, HandOverCounts};
use super::latency::Latency;
use super::offer::STATES;
use super::succession::LastState;
use super::{Origin, Version};
use crate::connection::Connection;
use crate::connection::roll::Roll;
use crate::datagram::counts::Datagrams;
use crate::guest::handler::Handler;
use crate::guest::memory::MemoryBook;
use crate::guest::stdio::{Known, Partner, Scope};
use crate::lifecycle::{Phase, VersionNumber};
use crate::limits::Limits;
use crate::sync::lock;
use arc_swap::ArcSwap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};

/// The versions of one service's handler, and what they share.
pub(crate) struct Versions {
    /// The name of the service.
    pub(crate) service: Arc<str>,
    /// The limits of the service.
    limits: ArcSwap<Limits>,
    /// Notified when the limits change.
    limits_changed: Notify,
    /// Of which connections the log has a line when they have ended.
    access_log: ArcSwap<AccessLog>,
    /// The open connections, and the bytes of all connections or datagrams.
    pub(crate) roll: Arc<Roll>,
    /// What its instances have.
    pub(crate) memory: Arc<MemoryBook>,
    /// How long the calls of its guests took.
    pub(crate) calls: Arc<Latency>,
    /// Counts the datagrams.
    pub(crate) datagrams: Arc<Datagrams>,
    /// Room for the states of isolated instances, one permit per byte.
    pub(crate) states: Arc<Semaphore>,
    /// What the last instance knew, if it served datagrams.
    pub(crate) last_state: LastState,
    /// The version that the next connection goes to.
    current: ArcSwap<Version>,
    /// The earlier versions. Its lock is held while a version becomes current, and
    /// while the phase changes.
    history: Mutex<History>,
    /// Notified when a connection of any version has failed, except those of probes.
    failed: Arc<Notify>,
    /// How far the end of the service has come.
    phase: watch::Sender<Phase>,
    /// Whether the service takes nothing new for now.
    suspended: watch::Sender<bool>,
    /// Why the service cannot continue. `None` as long as it can.
    broken: watch::Sender<Option<String>>,
    /// The runtime for tasks. Set before the first task.
    runtime: OnceLock<Handle>,
}

/// The versions that are not current.
#[derive(Default)]
pub(crate) struct History {
    /// The handler that a rollback goes to. `None` before the first swap.
    pub(crate) previous: Option<Previous>,
    /// Retired versions that still have connections, oldest first.
    retired: Vec<Arc<Version>>,
    /// Connections that versions without connections have handled. The versions
    /// themselves are forgotten.
    pub(crate) handled: u64,
    /// Connections that those versions did not let in.
    pub(crate) refused_by_handler: u64,
    /// The failed connections of those versions, and those that no version took.
    pub(crate) failures: FailureCounts,
    /// The hand-overs of those versions.
    pub(crate) hand_overs: HandOverCounts,
    /// Which version was last rolled back, and why. `None` before the first rollback.
    pub(crate) rolled_back: Option<String>,
}

/// A handler that a service can go back to.
#[derive(Clone)]
pub(crate) struct Previous {
    /// The number of the version that it was.
    pub(crate) number: VersionNumber,
    pub(crate) handler: Arc<Handler>,
    /// Why the service took the version back by itself. `None` if it did not.
    pub(crate) condemned: Option<String>,
}

impl Versions {
    /// Makes the versions of a new service. The first one serves from now on.
    pub(crate) fn new(
        service: &str,
        limits: Limits,
        access_log: AccessLog,
        handler: Arc<Handler>,
        memory: MemoryBook,
    ) -> Arc<Self> {
        let failed = Arc::<Notify>::default();
        let first = Version::new(
            VersionNumber::FIRST,
            handler,
            Origin::Start,
            Arc::clone(&failed),
        );
        Arc::new(Self {
            service: service.into(),
            limits: ArcSwap::from_pointee(limits),
            limits_changed: Notify::new(),
            access_log: ArcSwap::from_pointee(access_log),
            roll: Arc::default(),
            memory: Arc::new(memory),
            calls: Arc::default(),
            datagrams: Arc::default(),
            states: Arc::new(Semaphore::new(STATES)),
            last_state: LastState::default(),
            current: ArcSwap::new(first),
            history: Mutex::default(),
            failed,
            phase: watch::Sender::new(Phase::Serving),
            suspended: watch::Sender::new(false),
            broken: watch::Sender::new(None),
            runtime: OnceLock::new(),
        })
    }

    /// The limits of the service.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.limits.load_full()
    }

    /// Changes the limits of the service, and the access log.
    pub(crate) fn set(&self, limits: Limits, access_log: AccessLog) {
        self.limits.store(Arc::new(limits));
        self.access_log.store(Arc::new(access_log));
        self.limits_changed.notify_one();
    }

    /// Waits until the limits change. A change since the last call counts. Cancel-safe.
    pub(crate) async fn limits_changed(&self) {
        self.limits_changed.notified().await;
    }

    /// Of which connections the log has a line when they have ended.
    pub(crate) fn access_log(&self) -> AccessLog {
        **self.access_log.load()
    }

    /// The version that the next connection goes to.
    pub(crate) fn current(&self) -> Arc<Version> {
        self.current.load_full()
    }

    /// Whether the next connection goes to `version`.
    pub(crate) fn is_current(&self, version: &Arc<Version>) -> bool {
        Arc::ptr_eq(version, &self.current.load())
    }

    /// Makes the version after the current one. It is not current yet. Called with the
    /// history locked.
    pub(crate) fn next(&self, handler: Arc<Handler>, origin: Origin) -> Arc<Version> {
        let number = self.current.load().number.next();
        Version::new(number, handler, origin, Arc::clone(&self.failed))
    }

    /// Makes `version` current, and retires the version before, which it returns.
    /// `reason` says why, if this is a rollback.
    pub(crate) fn replace(
        &self,
        history: &mut History,
        version: &Arc<Version>,
        reason: Option<&str>,
    ) -> Arc<Version> {
        let old = self.current.swap(Arc::clone(version));
        old.retire(reason);
        history.previous = Some(Previous {
            number: old.number,
            handler: Arc::clone(&old.handler),
            condemned: None,
        });
        history.retired.push(Arc::clone(&old));
        history.forget_ended();
        old
    }

    /// Returns all versions that may have connections, the current one last.
    pub(crate) fn all(&self) -> Vec<Arc<Version>> {
        self.all_in(&mut self.history())
    }

    /// Does the same as [`all`](Self::all) with the history locked.
    pub(crate) fn all_in(&self, history: &mut History) -> Vec<Arc<Version>> {
        history.forget_ended();
        let mut versions = history.retired.clone();
        versions.push(self.current.load_full());
        versions
    }

    /// Locks the history.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// Forgets a version that has ended, and keeps only its totals. Does nothing if it
    /// has not.
    pub(crate) fn forget_if_ended(&self, version: &Version) {
        if version.has_ended() {
            self.history().forget_ended();
        }
    }

    /// Open connections, those being closed included. The permits do not say this: an
    /// accept that waits has one too.
    pub(crate) fn open(&self) -> u64 {
        self.all().iter().map(|version| version.open()).sum()
    }

    /// Waits until a connection has failed since the last call.
    pub(crate) async fn failed(&self) {
        self.failed.notified().await;
    }

    /// Waits until the service has reached `phase`.
    pub(crate) async fn reached(&self, phase: Phase) {
        Phase::reached(&self.phase, phase).await;
    }

    /// Whether the end of the service has not begun.
    pub(crate) fn is_serving(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// How far the end of the service has come.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The phase, as it changes.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Advances the service to `phase`. Never goes back.
    pub(crate) fn enter(&self, phase: Phase) {
        // Under the lock, so that no version becomes current afterwards.
        let _history = self.history();
        Phase::advance(&self.phase, phase);
    }

    /// Takes nothing new until it is told to go on, or goes on.
    pub(crate) fn suspend(&self, suspended: bool) {
        self.suspended.send_replace(suspended);
    }

    /// Whether the service takes nothing new for now.
    pub(crate) fn is_suspended(&self) -> bool {
        *self.suspended.borrow()
    }

    /// The same, as it changes.
    pub(crate) fn suspended(&self) -> watch::Receiver<bool> {
        self.suspended.subscribe()
    }

    /// Aborts the service, because it cannot continue.
    pub(crate) fn break_off(&self, reason: String) {
        self.broken.send_replace(Some(reason));
        self.enter(Phase::Aborting);
    }

    /// Why the service could not continue. `None` if it was not broken off.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.borrow().clone()
    }

    /// Sets the runtime for tasks. Only the first call has an effect.
    pub(crate) fn run_on(&self, runtime: Handle) {
        let _ = self.runtime.set(runtime);
    }

    /// The runtime for tasks. `None` before the service has its threads.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.runtime.get()
    }

    /// Runs a task on the service's threads. Does nothing before the service has them.
    pub(crate) fn spawn_task(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime.get() {
            runtime.spawn(task);
        }
    }

    /// Calls `make` inside the service's runtime, so that `make` can register
    /// descriptors with the poller. An error before the service has its threads.
    pub(crate) fn in_runtime<R>(&self, make: impl FnOnce() -> R) -> io::Result<R> {
        let runtime = self.runtime.get();
        let runtime = runtime.ok_or(io::ErrorKind::NotConnected)?;
        let _entered = runtime.enter();
        Ok(make())
    }

    /// What an instance belongs to. With `connection` for an instance of one connection.
    pub(crate) fn scope(&self, connection: Option<&Connection>) -> Scope {
        Scope {
            service: Arc::clone(&self.service),
            memory: Arc::clone(&self.memory),
            partner: connection.map_or_else(Partner::default, |connection| {
                Known::Connection(Arc::clone(connection.record())).into()
            }),
        }
    }
}

impl History {
    /// The retired versions that may have connections, oldest first.
    pub(crate) fn retired(&self) -> &[Arc<Version>] {
        &self.retired
    }

    /// Forgets the retired versions that have ended, and keeps their totals.
    pub(crate) fn forget_ended(&mut self) {
        let (gone, kept) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition(|version: &Arc<Version>| version.has_ended());
        self.retired = kept;
        for version in gone {
            self.handled += version.handled();
            self.refused_by_handler += version.refused_by_handler();
            self.failures.add(&version.failures());
            self.hand_overs.add(version.hand_overs());
        }
    }
}
