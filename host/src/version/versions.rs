//! All versions of a service's handler: which one is current, which ones still have
//! connections, and what they share.
//!
//! This is the lower half of a service, which dispatches work with. It lives as long as
//! the service, or as long as the last task or handle that uses it. It knows nothing of
//! swaps, listeners or rollbacks; those are in `service`, which owns it.

use super::access::AccessLog;
use super::canary::Canary;
use super::counts::{FailureCounts, HandOverCounts};
use super::latency::Latency;
use super::offer::STATES;
use super::succession::LastState;
use super::workers::Workers;
use super::{Origin, Version};
use crate::connection::Connection;
use crate::connection::roll::Roll;
use crate::datagram::counts::Datagrams;
use crate::guest::handler::Handler;
use crate::guest::memory::MemoryBook;
use crate::guest::stdio::{Known, Partner, Scope};
use crate::lifecycle::{AtomicVersionNumber, Life, Phase, VersionNumber};
use crate::limits::Limits;
use crate::sync::lock;
use arc_swap::{ArcSwap, ArcSwapOption};
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
    /// The turn of a connection under `sequential`: its only permit.
    pub(crate) turn: Arc<Semaphore>,
    /// What the last instance knew, if it served datagrams.
    pub(crate) last_state: LastState,
    /// The version that the next connection goes to, unless it goes to the canary.
    current: ArcSwap<Version>,
    /// The version that gets a share of the new connections. Changes like the current one.
    canary: ArcSwapOption<Canary>,
    /// The number of the latest version that was let in.
    latest: AtomicVersionNumber,
    /// The earlier versions. Its lock is held while a version becomes current, and
    /// while the phase changes.
    history: Mutex<History>,
    /// Notified when a connection of any version has failed, except those of probes.
    failed: Arc<Notify>,
    /// How far the end of the service has come.
    life: Life,
    /// Whether the service takes nothing new for now.
    suspended: watch::Sender<bool>,
    /// Why the service cannot continue. `None` as long as it can.
    broken: watch::Sender<Option<String>>,
    /// The runtime for tasks. Set before the first task.
    runtime: OnceLock<Handle>,
    /// The event loops of shared instances, beside the one of that runtime. Empty when the
    /// service has ended.
    loops: Mutex<Vec<Arc<Workers>>>,
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
    /// The limits that the service had with it. `None` if the version after it did not
    /// change them, or if they were set by other means since.
    pub(crate) limits: Option<Limits>,
}

/// A canary that has become current.
pub(crate) struct Promoted {
    /// The version that was current before.
    pub(crate) old: Arc<Version>,
    pub(crate) version: Arc<Version>,
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
            turn: Arc::new(Semaphore::new(1)),
            last_state: LastState::default(),
            current: ArcSwap::new(first),
            canary: ArcSwapOption::empty(),
            latest: AtomicVersionNumber::from(VersionNumber::FIRST),
            history: Mutex::default(),
            failed,
            life: Life::new(),
            suspended: watch::Sender::new(false),
            broken: watch::Sender::new(None),
            runtime: OnceLock::new(),
            loops: Mutex::default(),
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

    /// The version that the next connection goes to, unless it goes to the canary.
    pub(crate) fn current(&self) -> Arc<Version> {
        self.current.load_full()
    }

    /// Whether `version` is the current one.
    pub(crate) fn is_current(&self, version: &Arc<Version>) -> bool {
        Arc::ptr_eq(version, &self.current.load())
    }

    /// The number of the version that is let in next.
    pub(crate) fn next_number(&self) -> VersionNumber {
        self.latest.load().unwrap_or(VersionNumber::FIRST).next()
    }

    /// Makes the next version. It is not current yet. Called with the history locked.
    pub(crate) fn next(&self, handler: Arc<Handler>, origin: Origin) -> Arc<Version> {
        let number = self.next_number();
        Version::new(number, handler, origin, Arc::clone(&self.failed))
    }

    /// The version that gets a share of the new connections. `None` if there is none.
    pub(crate) fn canary(&self) -> Option<Arc<Canary>> {
        self.canary.load_full()
    }

    /// Whether `version` is the canary.
    pub(crate) fn is_canary(&self, version: &Version) -> bool {
        let canary = self.canary.load();
        let canary = canary.as_ref();
        canary.is_some_and(|it| std::ptr::eq(Arc::as_ptr(&it.version), version))
    }

    /// The canary, if the next new connection goes to it. Called once per connection.
    pub(crate) fn canary_for_next(&self) -> Option<Arc<Version>> {
        let canary = self.canary.load();
        let canary = canary.as_ref().filter(|canary| canary.takes_next())?;
        Some(Arc::clone(&canary.version))
    }

    /// Lets a version in as the canary. Called with the history locked, when there is
    /// none.
    pub(crate) fn begin_canary(&self, _history: &mut History, version: &Arc<Version>, percent: u8) {
        self.latest.raise(version.number);
        let canary = Canary::new(Arc::clone(version), percent);
        self.canary.store(Some(Arc::new(canary)));
    }

    /// Makes the canary current, as [`replace`](Self::replace) does. `None` if there is no
    /// canary.
    pub(crate) fn promote(&self, history: &mut History) -> Option<Promoted> {
        let version = Arc::clone(&self.canary()?.version);
        version.activate();
        let old = self.replace(history, &version, None);
        self.canary.store(None);
        Some(Promoted { old, version })
    }

    /// Retires the canary, which it returns, and leaves the current version as it is.
    /// `reason` says why, if it was taken back.
    pub(crate) fn end_canary(
        &self,
        history: &mut History,
        reason: Option<&str>,
    ) -> Option<Arc<Version>> {
        let canary = self.canary.swap(None)?;
        let version = Arc::clone(&canary.version);
        version.retire(reason);
        history.retired.push(Arc::clone(&version));
        history.forget_ended();
        Some(version)
    }

    /// Retires what takes connections, at the end of the service.
    pub(crate) fn retire_all(&self) {
        self.end_canary(&mut self.history(), None);
        self.current().retire(None);
    }

    /// Makes `version` current, and retires the version before, which it returns.
    /// `reason` says why, if this is a rollback.
    pub(crate) fn replace(
        &self,
        history: &mut History,
        version: &Arc<Version>,
        reason: Option<&str>,
    ) -> Arc<Version> {
        self.latest.raise(version.number);
        let old = self.current.swap(Arc::clone(version));
        old.retire(reason);
        history.previous = Some(Previous {
            number: old.number,
            handler: Arc::clone(&old.handler),
            condemned: None,
            limits: None,
        });
        history.retired.push(Arc::clone(&old));
        history.forget_ended();
        old
    }

    /// Returns all versions that may have connections, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Version>> {
        self.all_in(&mut self.history())
    }

    /// Does the same as [`all`](Self::all) with the history locked.
    pub(crate) fn all_in(&self, history: &mut History) -> Vec<Arc<Version>> {
        history.forget_ended();
        let mut versions = history.retired.clone();
        versions.push(self.current.load_full());
        versions.extend(self.canary().map(|canary| Arc::clone(&canary.version)));
        // A canary that was taken back is younger than the current version.
        versions.sort_by_key(|version| version.number);
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
        self.life.reached(phase).await;
    }

    /// Whether the end of the service has not begun.
    pub(crate) fn is_serving(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// How far the end of the service has come.
    pub(crate) fn phase(&self) -> Phase {
        self.life.phase()
    }

    /// The phase, as it changes.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.life.phases()
    }

    /// Advances the service to `phase`. Never goes back.
    pub(crate) fn enter(&self, phase: Phase) {
        // Under the lock, so that no version becomes current afterwards.
        let _history = self.history();
        self.life.advance(phase);
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

    /// Sets the event loops of shared instances, beside the one of the service's runtime;
    /// or, with none, lets them end with their last tasks.
    pub(crate) fn loop_on(&self, loops: Vec<Arc<Workers>>) {
        *lock(&self.loops) = loops;
    }

    /// The event loops for instances of `version`, beside the one of its own runtime.
    pub(crate) fn loops_of(&self, version: &Version) -> Vec<Arc<Workers>> {
        match version.workers() {
            // Its dispatch is not that of the service.
            Some(_) => Vec::new(),
            None => lock(&self.loops).clone(),
        }
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
