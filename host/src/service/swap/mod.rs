//! Changes a service's handler while the service runs.
//!
//! A swap compiles and tries the new component beside the old version. Only then it
//! makes the new version current, for the next accept. If anything fails before, the
//! old version serves on. The connections of the old version are handed over to the new
//! one, drain, or are closed.
//!
//! | file | |
//! | --- | --- |
//! | `options` | how to swap |
//! | `changes` | the settings that change with a swap |
//! | `canary` | a version that gets a share of the new connections first |
//! | `outcome` | what a swap came to, or why there was none |
//! | `succession` | what the instance of the old version knows, on its way to the new one |

mod canary;
mod changes;
mod options;
mod outcome;
mod succession;

pub(in crate::service) use canary::Trial;
use canary::check_canary;
pub use changes::SettingChanges;
pub use options::{CanaryOptions, OldConnections, SwapOptions};
pub use outcome::{SwapError, Swapped};
pub(in crate::service) use succession::{Saved, Succession};

use crate::aside::aside_giving_way;
use crate::component::Component;
use crate::component::builtin;
use crate::dispatch;
use crate::guest::handler::Handler;
use crate::guest::handler_error::HandlerError;
use crate::lifecycle::Phase;
use crate::limits::Limits;
use crate::listen::local::Transport;
use crate::service::state_file::StateFile;
use crate::service::{ServiceHandle, Shared, served};
use crate::text;
use crate::version::versions::{History, Versions};
use crate::version::workers::Workers;
use crate::version::{Origin, Version};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

/// What becomes current.
pub(in crate::service) struct Next<'a> {
    pub(in crate::service) handler: Arc<Handler>,
    pub(in crate::service) origin: Origin,
    /// Why, if this is a rollback.
    pub(in crate::service) reason: Option<&'a str>,
    /// What becomes of the connections of the version before.
    pub(in crate::service) mode: OldConnections,
    /// The limits that the service has from then on. `None` if they stay.
    pub(in crate::service) limits: Option<Limits>,
    /// The runtime of the version, if it is not the service's.
    pub(in crate::service) workers: Option<Arc<Workers>>,
}

/// The component to swap in.
enum Incoming {
    /// A file, or `builtin:NAME`, that is still to be read.
    Named(OsString),
    /// The component of the current version, which is read again.
    Present,
    /// A component that is here already, and the name of its source.
    Sent(String, Component),
    /// A handler that is made already, with options of its own.
    Made(Arc<Handler>),
}

impl ServiceHandle {
    /// Puts the component that `source` names (a file, or `builtin:NAME`) in the place
    /// of the current one.
    ///
    /// Returns when the component is current, or with the reason why it is not. If
    /// connections are handed over, it returns when they are, but waits at most two
    /// seconds for slow ones, from when the last one was asked. If the caller gives up
    /// waiting, the swap still happens.
    /// It runs on the caller's Tokio runtime, which must have I/O and time, and on the
    /// service's if the caller has none.
    pub async fn swap(&self, source: &str, options: SwapOptions) -> Result<Swapped, SwapError> {
        let guard = self.try_begin()?;
        self.run(guard, Incoming::Named(source.into()), options)
            .await
    }

    /// Swaps the current component in once more, with other settings. Otherwise the same as
    /// [`swap`](Self::swap).
    pub async fn swap_settings(&self, options: SwapOptions) -> Result<Swapped, SwapError> {
        if options.changes.is_empty() {
            return Err(SwapError::Nothing);
        }
        let guard = self.try_begin()?;
        self.run(guard, Incoming::Present, options).await
    }

    /// Does the same as [`swap`](Self::swap), but first waits for a swap that is under
    /// way.
    pub async fn swap_in_turn(
        &self,
        source: &OsStr,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let guard = Arc::clone(&self.shared.swapping).lock_owned().await;
        self.run(guard, Incoming::Named(source.to_owned()), options)
            .await
    }

    /// Does the same as [`swap`](Self::swap) with a component that is here already.
    /// `source` is its source in the service's status.
    pub async fn swap_component(
        &self,
        source: &str,
        component: Component,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let guard = self.try_begin()?;
        let incoming = Incoming::Sent(source.to_owned(), component);
        self.run(guard, incoming, options).await
    }

    /// Puts a handler in the place of the current one, whose options may be others: its
    /// grants, its limits, its dispatch. Otherwise the same as [`swap`](Self::swap); a swap
    /// that is under way is waited for.
    pub(crate) async fn swap_handler(
        &self,
        handler: Arc<Handler>,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let guard = Arc::clone(&self.shared.swapping).lock_owned().await;
        self.run(guard, Incoming::Made(handler), options).await
    }

    /// Takes the lock of swaps. An error if a swap is under way.
    fn try_begin(&self) -> Result<OwnedMutexGuard<()>, SwapError> {
        let guard = Arc::clone(&self.shared.swapping).try_lock_owned();
        guard.map_err(|_| SwapError::Busy(self.shared.name().to_owned()))
    }

    /// Runs the swap as a task, which ends with `guard` dropped, and waits for it.
    async fn run(
        &self,
        guard: OwnedMutexGuard<()>,
        incoming: Incoming,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        let service = Arc::clone(&self.shared);
        // A task, so that a caller who goes away leaves nothing half done.
        let runtime = match (Handle::try_current(), self.shared.versions.runtime()) {
            (Ok(runtime), _) => runtime,
            (Err(_), Some(runtime)) => runtime.clone(),
            (Err(_), None) => return Err(SwapError::Ending(service.name().to_owned())),
        };
        let swapping = runtime.spawn(async move {
            let old = service.versions.current();
            let mut result = service.swap(incoming, options).await;
            drop(guard);
            if let Ok(swapped) = &mut result {
                swapped.settle(&old).await;
            }
            result
        });
        match swapping.await {
            Ok(result) => result,
            Err(error) => Err(SwapError::Host(error.to_string())),
        }
    }

    /// Stops accepting and lets open connections finish.
    pub fn drain(&self) {
        self.shared.versions.enter(Phase::Draining);
    }

    /// Stops accepting until [`resume`](Self::resume). Peers wait with the kernel, and open
    /// connections are served.
    pub fn suspend(&self) {
        self.shared.versions.suspend(true);
    }

    /// Accepts again.
    pub fn resume(&self) {
        self.shared.versions.suspend(false);
    }

    /// Whether the end of the service has not begun.
    pub(crate) fn is_serving(&self) -> bool {
        self.shared.versions.is_serving()
    }

    /// The file in which what its instance knows is kept.
    pub(crate) fn state_file(&self) -> Option<&Path> {
        self.shared.state_file.as_ref().map(StateFile::path)
    }

    /// Whether the service has ended.
    pub(crate) fn is_over(&self) -> bool {
        *self.shared.over.borrow()
    }

    /// Closes every connection, and ends the service.
    pub(crate) fn abort(&self) {
        self.shared.versions.enter(Phase::Aborting);
    }

    /// The handler of the current version.
    pub(crate) fn handler(&self) -> Arc<Handler> {
        Arc::clone(&self.shared.versions.current().handler)
    }

    /// Makes an instance of a handler, as the service would, and drops it.
    pub(crate) async fn try_handler(&self, handler: &Handler) -> Result<(), HandlerError> {
        handler
            .try_instantiate(self.shared.versions.scope(None))
            .await
    }

    /// Waits until the service has ended.
    pub async fn over(&self) {
        // The handle has the sender, so the channel cannot be closed.
        let _ = self.shared.over.subscribe().wait_for(|over| *over).await;
    }
}

impl Shared {
    /// Compiles and tries the component, and then makes it current.
    async fn swap(
        self: &Arc<Self>,
        incoming: Incoming,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        self.check_serving()?;
        self.check_no_canary()?;
        let versions = &self.versions;
        let current = versions.current();
        let asked = self.asked.load_full();
        let handler = {
            let (current, changes) = (Arc::clone(&current), options.changes.clone());
            // Reading and compiling take a while, and the caller's thread may have
            // other requests to answer.
            aside_giving_way("swap", move || load(incoming, &current, &changes, &asked))
                .await
                .map_err(|error| SwapError::Host(error.to_string()))??
        };
        let Some(handler) = handler else {
            return match options.canary {
                None => Ok(Swapped::new(&current, None, 0)),
                Some(_) => Err(SwapError::Unshared {
                    name: current.handler.source().to_owned(),
                    reason: "it is what serves already; name another component or a setting",
                }),
            };
        };
        let (old, new) = (current.handler.contract(), handler.contract());
        if old.takes_datagrams() != new.takes_datagrams() {
            return Err(SwapError::Transport {
                name: handler.source().to_owned(),
                contract: new,
                served: served(old),
            });
        }
        if new.takes_datagrams() && current.handler.dispatch() != handler.dispatch() {
            return Err(SwapError::Dispatch(self.name().to_owned()));
        }
        let old = options.old_mode(&current.handler, &handler)?;
        let limits = self.changed_limits(&handler, &options)?;
        if options.canary.is_some() {
            check_canary(&current.handler, &handler, &options)?;
        }
        handler.try_instantiate(versions.scope(None)).await?;
        if let Some(probe) = &options.probe {
            let transport = self.listeners.transport().unwrap_or(Transport::Tcp);
            probe.run(versions, Arc::clone(&handler), transport).await?;
        }
        let workers = self.workers_for(&handler).await?;
        if let Some(canary) = options.canary {
            let trial = Trial {
                old,
                drain_timeout: options.drain_timeout,
                changes_limits: limits.is_some(),
            };
            return self.begin_canary(handler, workers, canary, trial);
        }
        let hand_over = old == OldConnections::HandOver;
        let discard = options.discard_state;
        let succession = self.succeed(&current, &handler, hand_over, discard).await?;
        let (state, state_lost) = (succession.bytes, succession.lost);
        let next = Next {
            handler,
            origin: Origin::Swap,
            reason: None,
            mode: old,
            limits,
            workers,
        };
        let version = self.activate(next, succession)?;
        self.end_all_old(&current, old, options.drain_timeout);
        let mut swapped = Swapped::new(&version, Some(old), current.served());
        swapped.state = state;
        swapped.state_lost = state_lost;
        Ok(swapped)
    }

    /// The limits of the service after a swap. `None` if they stay as they are. An error if
    /// they do not go together with who may come in.
    fn changed_limits(
        self: &Arc<Self>,
        handler: &Handler,
        options: &SwapOptions,
    ) -> Result<Option<Limits>, SwapError> {
        if options.changes.limits.is_empty() {
            return Ok(None);
        }
        let limits = handler.limits().clone();
        let service = ServiceHandle {
            shared: Arc::clone(self),
        };
        service.check_admission(&self.admission.policy(), limits.max_connections)?;
        Ok(Some(limits))
    }

    /// An error if the service is ending.
    pub(super) fn check_serving(&self) -> Result<(), SwapError> {
        if self.versions.phase() == Phase::Serving {
            Ok(())
        } else {
            Err(SwapError::Ending(self.name().to_owned()))
        }
    }

    /// Makes a version of a handler current, and retires the version before. With a hand-over it
    /// asks the connections of the version before to go to the new one, and again those
    /// of earlier versions that were asked before. What its instance knows has passed to
    /// `succession`.
    pub(super) fn activate(
        self: &Arc<Self>,
        next: Next<'_>,
        mut succession: Succession,
    ) -> Result<Arc<Version>, SwapError> {
        let Next {
            handler,
            origin,
            reason,
            mode,
            limits,
            workers,
        } = next;
        let versions = &self.versions;
        let mut history = versions.history();
        // The phase changes only under this lock, so the service cannot end in between.
        self.check_serving()?;
        let version = versions.next(handler, origin);
        if let Some(workers) = workers {
            version.work_on(workers);
        }
        if let Some(prepared) = succession.prepared.take() {
            version.prepare(prepared);
        }
        dispatch::start(versions, &version).map_err(|error| SwapError::Host(error.to_string()))?;
        let hand_over = mode == OldConnections::HandOver;
        let current = versions.current();
        let share = [&version, &current].map(|it| it.handler.shares_instance());
        if hand_over && share == [true, true] {
            current.hold_gate_of(&version);
        }
        version.open_gate();
        let old = versions.replace(&mut history, &version, reason);
        if hand_over {
            ask_all(versions, &history, &old, &version);
        }
        self.note_limits(&mut history, limits.as_ref());
        drop(history);
        self.take_turns(version.handler.dispatch());
        let opens = |it: &Version| it.handler.instances_may_open();
        match limits {
            Some(limits) => self.set_limits(limits),
            // Instances that open descriptors of their own leave room for fewer of them.
            None if opens(&old) != opens(&version) => {
                self.set_limits(Limits::clone(&self.asked.load()))
            }
            None => {}
        }
        let state = succession.bytes;
        if mode == OldConnections::Abort {
            // Before the driver goes on: what it did now, nobody would see.
            old.abort();
        }
        succession.complete();
        tracing::info!(
            service = self.name(),
            version = version.number.get(),
            source = version.handler.source(),
            sha256 = version.handler.digest(),
            reason,
            state,
            "version activated"
        );
        Ok(version)
    }

    /// Notes with the version before which limits the service had with it, if they are
    /// others from now on.
    fn note_limits(&self, history: &mut History, limits: Option<&Limits>) {
        if limits.is_some()
            && let Some(previous) = &mut history.previous
        {
            previous.limits = Some(Limits::clone(&self.asked.load()));
        }
    }

    /// Ends the connections of the version before, and also those of earlier versions if a
    /// limit was asked for.
    fn end_all_old(&self, old: &Arc<Version>, mode: OldConnections, timeout: Option<Duration>) {
        self.end_old(old, mode, timeout);
        let is_limited = match mode {
            OldConnections::Abort => true,
            OldConnections::Drain => timeout.is_some(),
            OldConnections::HandOver => false,
        };
        if is_limited {
            // A limit that is asked for holds for all versions that are not current;
            // without it each version keeps its own.
            let retired = self.versions.history().retired().to_vec();
            for earlier in retired.iter().filter(|it| !Arc::ptr_eq(it, old)) {
                self.end_old(earlier, mode, timeout);
            }
        }
    }

    /// Ends the connections of a version that is no longer current: at once, after a
    /// time, or, if they are handed over without a time-out, not at all.
    pub(super) fn end_old(
        &self,
        old: &Arc<Version>,
        mode: OldConnections,
        timeout: Option<Duration>,
    ) {
        let timeout = match (mode, timeout) {
            (OldConnections::Abort, _) => return old.abort(),
            (_, Some(timeout)) => timeout,
            (OldConnections::Drain, None) => self.versions.limits().drain_timeout,
            (OldConnections::HandOver, None) => return,
        };
        // A weak reference: the version must be able to go with its last connection.
        let old = Arc::downgrade(old);
        let name = Arc::clone(&self.versions.service);
        self.versions.spawn_task(async move {
            tokio::time::sleep(timeout).await;
            let Some(old) = old.upgrade() else {
                return;
            };
            let connections = old.open();
            if connections > 0 {
                tracing::warn!(
                    service = &*name,
                    version = old.number.get(),
                    connections,
                    "drain timeout of the version, closing what is open"
                );
            }
            old.abort();
        });
    }
}

/// Asks the connections of `old` to go to `version`, which is current now. Connections of
/// earlier versions that stayed when they were asked before are asked again.
fn ask_all(versions: &Arc<Versions>, history: &History, old: &Arc<Version>, version: &Version) {
    dispatch::ask(versions, old, version.number);
    if version.handler.takes_over() {
        let retired = history.retired().iter();
        for earlier in retired.filter(|it| it.asks_for().is_some()) {
            dispatch::ask(versions, earlier, version.number);
        }
    }
}

/// Compiles the component for the service that `current` serves. `None` if it is the
/// current component, with the settings that it has.
fn load(
    incoming: Incoming,
    current: &Version,
    changes: &SettingChanges,
    limits: &Limits,
) -> Result<Option<Arc<Handler>>, SwapError> {
    let had = &current.handler;
    let (source, component) = match incoming {
        Incoming::Named(source) => {
            let component = builtin::load_path(&source)?;
            (text::path(source.as_ref()).into_owned(), component)
        }
        Incoming::Present => (had.source().to_owned(), present(current)?),
        Incoming::Sent(source, component) => (source, component),
        Incoming::Made(handler) => return Ok(Some(handler)),
    };
    let options = changes.applied(had.options(), limits)?;
    if component.digest() == had.digest() && changes::has_settings(had, &options) {
        return Ok(None);
    }
    let handler = Handler::new(&source, &component, options)?;
    Ok(Some(Arc::new(handler)))
}

/// Reads the component of the current version once more: its bytes are not kept.
fn present(current: &Version) -> Result<Component, SwapError> {
    let handler = &current.handler;
    let gone = |reason: String| SwapError::Gone {
        name: handler.source().to_owned(),
        number: current.number.get(),
        reason,
    };
    let component = builtin::load(handler.source()).map_err(|error| gone(error.to_string()))?;
    if component.digest() == handler.digest() {
        Ok(component)
    } else {
        Err(gone("there is another one".to_owned()))
    }
}
