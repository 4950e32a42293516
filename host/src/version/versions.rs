//! The versions of a service's handler together: which one is current, which ones
//! still have connections, and what all of them share.
//!
//! This is the lower half of a service, the half that dispatches work with. It knows
//! nothing of swaps, listeners or rollbacks; those are in `service`, which holds it.

use super::counts::{FailureCounts, HandOverCounts};
use super::offer::STATES;
use super::{Origin, Version};
use crate::connection::Connection;
use crate::connection::traffic::Traffic;
use crate::guest::handler::Handler;
use crate::guest::stdio::Scope;
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
    pub(crate) limits: Limits,
    /// The bytes of all connections.
    pub(crate) traffic: Arc<Traffic>,
    /// Bytes for the states that isolated instances have given.
    pub(crate) states: Arc<Semaphore>,
    /// Where the next connection goes.
    current: ArcSwap<Version>,
    history: Mutex<History>,
    /// Notified when a connection of any version has failed.
    failed: Arc<Notify>,
    phase: watch::Sender<Phase>,
    /// Why the service cannot go on, once it cannot.
    broken: watch::Sender<Option<String>>,
    /// Where tasks run. Set before anybody can ask for one.
    runtime: OnceLock<Handle>,
}

/// The versions that are not current.
#[derive(Default)]
pub(crate) struct History {
    /// The handler to go back to.
    pub(crate) previous: Option<Previous>,
    /// Versions that still have connections.
    retired: Vec<Arc<Version>>,
    /// What versions that are gone have done.
    pub(crate) handled: u64,
    pub(crate) failures: FailureCounts,
    pub(crate) hand_overs: HandOverCounts,
    /// Why the last rollback happened, and of which version.
    pub(crate) rolled_back: Option<String>,
}

/// A handler that a service can go back to.
#[derive(Clone)]
pub(crate) struct Previous {
    /// The number of the version that it was.
    pub(crate) number: VersionNumber,
    pub(crate) handler: Arc<Handler>,
    /// Why it was taken back by itself, if it was.
    pub(crate) condemned: Option<String>,
}

impl Versions {
    /// With one version, which serves from now on.
    pub(crate) fn new(service: &str, limits: Limits, handler: Arc<Handler>) -> Arc<Self> {
        let failed = Arc::<Notify>::default();
        let first = Version::new(
            VersionNumber::FIRST,
            handler,
            Origin::Start,
            Arc::clone(&failed),
        );
        Arc::new(Self {
            service: service.into(),
            limits,
            traffic: Arc::default(),
            states: Arc::new(Semaphore::new(STATES)),
            current: ArcSwap::new(first),
            history: Mutex::default(),
            failed,
            phase: watch::Sender::new(Phase::Serving),
            broken: watch::Sender::new(None),
            runtime: OnceLock::new(),
        })
    }

    /// The version that the next connection goes to.
    pub(crate) fn current(&self) -> Arc<Version> {
        self.current.load_full()
    }

    /// Whether the next connection goes to `version`.
    pub(crate) fn is_current(&self, version: &Arc<Version>) -> bool {
        Arc::ptr_eq(version, &self.current.load())
    }

    /// The version to come after the current one, which serves nobody yet. To be
    /// called under the lock of the history.
    pub(crate) fn next(&self, handler: Arc<Handler>, origin: Origin) -> Arc<Version> {
        let number = self.current.load().number.next();
        Version::new(number, handler, origin, Arc::clone(&self.failed))
    }

    /// Makes `version` current and retires the one before, because of `reason` if
    /// nobody asked for it. Returns the one before.
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

    /// All versions that may have connections, the current one last.
    pub(crate) fn all(&self) -> Vec<Arc<Version>> {
        self.all_in(&mut self.history())
    }

    /// The same for who has the history.
    pub(crate) fn all_in(&self, history: &mut History) -> Vec<Arc<Version>> {
        history.forget_ended();
        let mut versions = history.retired.clone();
        versions.push(self.current.load_full());
        versions
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// Forgets a version that has ended, and keeps only its sums.
    pub(crate) fn forget_if_ended(&self, version: &Version) {
        if version.has_ended() {
            self.history().forget_ended();
        }
    }

    /// Connections open, those being closed included. Not what the permits say:
    /// an accept that waits has one too.
    pub(crate) fn open(&self) -> u64 {
        self.all().iter().map(|version| version.open()).sum()
    }

    /// Waits until a connection has failed since the last call.
    pub(crate) async fn failed(&self) {
        self.failed.notified().await;
    }

    /// Waits until the service has come to `phase`.
    pub(crate) async fn reached(&self, phase: Phase) {
        Phase::reached(&self.phase, phase).await;
    }

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The phase, as it changes.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        // Under the lock, so that no version becomes current after this.
        let _history = self.history();
        Phase::advance(&self.phase, phase);
    }

    /// Ends the service, because it cannot go on.
    pub(crate) fn break_off(&self, reason: String) {
        self.broken.send_replace(Some(reason));
        self.enter(Phase::Aborting);
    }

    /// Why the service could not go on, if that is so.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.borrow().clone()
    }

    /// Has tasks run on `runtime` from now on. Only the first call counts.
    pub(crate) fn run_on(&self, runtime: Handle) {
        let _ = self.runtime.set(runtime);
    }

    /// Where tasks run, once the service has its threads.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.runtime.get()
    }

    /// Runs a task on the service's threads.
    pub(crate) fn spawn_task(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime.get() {
            runtime.spawn(task);
        }
    }

    /// Calls `make` where it can put things into the service's poller.
    pub(crate) fn in_runtime<R>(&self, make: impl FnOnce() -> R) -> io::Result<R> {
        let runtime = self.runtime.get();
        let runtime = runtime.ok_or(io::ErrorKind::NotConnected)?;
        let _entered = runtime.enter();
        Ok(make())
    }

    /// Under which name an instance's output is logged.
    pub(crate) fn scope(&self, connection: Option<&Connection>) -> Scope {
        Scope {
            service: Arc::clone(&self.service),
            connection: connection.map(|connection| (connection.id(), connection.peer())),
        }
    }
}

impl History {
    /// The versions that still have connections, oldest first.
    pub(crate) fn retired(&self) -> &[Arc<Version>] {
        &self.retired
    }

    /// Keeps the sums of versions that have no connections any more, and not
    /// the versions.
    pub(crate) fn forget_ended(&mut self) {
        let (gone, kept) = std::mem::take(&mut self.retired)
            .into_iter()
            .partition(|version: &Arc<Version>| version.has_ended());
        self.retired = kept;
        for version in gone {
            self.handled += version.handled();
            self.failures.add(&version.failures());
            self.hand_overs.add(version.hand_overs());
        }
    }
}
