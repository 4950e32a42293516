//! Changes a service's handler while the service runs.
//!
//! A swap compiles and tries the new component beside the old version. Only then it
//! makes the new version current, for the next accept. If anything fails before, the
//! old version serves on. The connections of the old version are handed over to the new
//! one, drain, or are closed.

use crate::aside::aside;
use crate::component::Component;
use crate::component::builtin::{self, LoadError};
use crate::dispatch;
use crate::guest::handler::{Handler, HandlerError};
use crate::lifecycle::Phase;
use crate::service::probe::{Probe, ProbeError};
use crate::service::{ServiceHandle, Shared};
use crate::text;
use crate::version::{Origin, Version};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::OwnedMutexGuard;

/// What becomes of the connections of the version before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OldConnections {
    /// The new version continues them. A connection that cannot leave, or that the new
    /// version refuses, stays with the old version.
    HandOver,
    /// They finish. Those that are open at the drain timeout are closed.
    Drain,
    /// They are closed.
    Abort,
}

/// How a swap treats old connections, and whether it probes.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct SwapOptions {
    /// What becomes of the old version's connections. By default they are handed
    /// over if both versions can do that, and drain otherwise.
    pub old: Option<OldConnections>,
    /// How long connections may stay with the old version. By default the service's
    /// drain timeout if they drain, and without limit if they are handed over.
    pub drain_timeout: Option<Duration>,
    /// A connection that tries the new version first. By default none.
    pub probe: Option<Probe>,
}

impl SwapOptions {
    /// Decides what becomes of the old version's connections.
    #[must_use]
    pub fn old(mut self, old: OldConnections) -> Self {
        self.old = Some(old);
        self
    }

    /// Limits how long connections may stay with the old version.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = Some(timeout);
        self
    }

    /// Tries the new version with a probe first.
    #[must_use]
    pub fn probe(mut self, probe: Probe) -> Self {
        self.probe = Some(probe);
        self
    }

    /// Decides what becomes of the connections of `old`. An error if a hand-over was
    /// asked for and one of the handlers cannot do it.
    pub(super) fn old_mode(
        &self,
        old: &Handler,
        new: &Handler,
    ) -> Result<OldConnections, SwapError> {
        let obstacle = if !old.gives_up() {
            Some((old, "cannot give its connections up"))
        } else if !new.takes_over() {
            Some((new, "cannot take connections over"))
        } else {
            None
        };
        match (self.old, obstacle) {
            (None, None) => Ok(OldConnections::HandOver),
            (None, Some(_)) => Ok(OldConnections::Drain),
            (Some(OldConnections::HandOver), Some((handler, what))) => {
                Err(SwapError::HandOver(handler.source().to_owned(), what))
            }
            (Some(mode), _) => Ok(mode),
        }
    }
}

/// The result of a swap.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Swapped {
    /// The number of the version that is current now.
    pub version: u32,
    /// False if the component is the same as the current one, and nothing was done.
    pub changed: bool,
    /// What becomes of the connections of the version before. `None` if nothing was
    /// done.
    pub old: Option<OldConnections>,
    /// How many connections the version before still serves.
    pub staying: u64,
    /// How many connections of the version before failed while they were to be handed
    /// over.
    #[serde(default)]
    pub lost: u64,
    /// SHA-256 of the current version's component file, in hexadecimal.
    pub sha256: String,
}

impl Swapped {
    /// Waits until the connections of the version before are handed over or stay, but
    /// for at most [`SETTLING`]. Then counts them.
    pub(super) async fn settle(&mut self, old: &Version) {
        if self.old == Some(OldConnections::HandOver) {
            let _ = tokio::time::timeout(SETTLING, old.left()).await;
            self.staying = old.served();
            self.lost = old.lost();
        }
    }
}

/// How long a swap waits for connections to be handed over. Longer than a shared
/// instance gathers them.
const SETTLING: Duration = Duration::from_secs(2);

/// Why a swap or a rollback did not happen, so that the old version serves on. One line
/// each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// Another swap is under way.
    #[error("a swap of {0} is under way; try again when it is done")]
    Busy(String),
    /// The service is ending.
    #[error("{0} is draining and takes no new version")]
    Ending(String),
    /// The component cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The component cannot be a handler of this service.
    #[error(transparent)]
    Handler(#[from] HandlerError),
    /// One of the versions cannot hand connections over.
    #[error("{0}: its component {1}; use --old drain or --old abort")]
    HandOver(String, &'static str),
    /// The probe failed.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The version before was taken back by itself.
    #[error(
        "{name}: version {number} was taken back because {reason}; to go to it all the same name \
         it with --to {number}"
    )]
    Condemned {
        /// The service.
        name: String,
        /// The version before.
        number: u32,
        /// Why it was taken back.
        reason: String,
    },
    /// A version was named that is not the one before.
    #[error(
        "{0} can go back to version {2} only, not to version {1}; swap its component in instead"
    )]
    NotThere(String, u32, u32),
    /// There is nothing to go back to.
    #[error("{0} has no version before this one to go back to")]
    NoPrevious(String),
    /// The host failed.
    #[error("the swap failed: {0}")]
    Host(String),
}

/// The component to swap in.
enum Incoming {
    /// A file, or `builtin:NAME`, that is still to be read.
    Named(OsString),
    /// A component that is here already, and the name of its source.
    Sent(String, Component),
}

impl ServiceHandle {
    /// Puts the component that `source` names (a file, or `builtin:NAME`) in the place
    /// of the current one.
    ///
    /// Returns when the component is current, or with the reason why it is not. If
    /// connections are handed over, it returns when they are, but waits at most two
    /// seconds for slow ones. If the caller gives up waiting, the swap still happens.
    /// It runs on the caller's Tokio runtime, which must have I/O and time, and on the
    /// service's if the caller has none.
    pub async fn swap(&self, source: &str, options: SwapOptions) -> Result<Swapped, SwapError> {
        let guard = self.try_begin()?;
        self.run(guard, Incoming::Named(source.into()), options)
            .await
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
}

impl Shared {
    /// Compiles and tries the component, and then makes it current.
    async fn swap(
        self: &Arc<Self>,
        incoming: Incoming,
        options: SwapOptions,
    ) -> Result<Swapped, SwapError> {
        self.check_serving()?;
        let versions = &self.versions;
        let current = versions.current();
        let handler = {
            let handler = Arc::clone(&current.handler);
            // Reading and compiling take a while, and the caller's thread may have
            // other requests to answer.
            aside("swap", move || load(incoming, &handler))
                .await
                .map_err(|error| SwapError::Host(error.to_string()))??
        };
        let Some(handler) = handler else {
            return Ok(Swapped {
                version: current.number.get(),
                changed: false,
                old: None,
                staying: 0,
                lost: 0,
                sha256: current.handler.digest().to_owned(),
            });
        };
        let handler = Arc::new(handler);
        let old = options.old_mode(&current.handler, &handler)?;
        handler.try_instantiate(versions.scope(None)).await?;
        if let Some(probe) = &options.probe {
            probe.run(versions, Arc::clone(&handler)).await?;
        }
        let version = self.activate(handler, Origin::Swap, None, old)?;
        self.end_old(&current, old, options.drain_timeout);
        let is_limited = match old {
            OldConnections::Abort => true,
            OldConnections::Drain => options.drain_timeout.is_some(),
            OldConnections::HandOver => false,
        };
        if is_limited {
            // A limit that is asked for holds for all versions that are not current;
            // without it each version keeps its own.
            let retired = versions.history().retired().to_vec();
            for earlier in retired {
                self.end_old(&earlier, old, options.drain_timeout);
            }
        }
        Ok(Swapped {
            version: version.number.get(),
            changed: true,
            old: Some(old),
            staying: current.served(),
            lost: 0,
            sha256: version.handler.digest().to_owned(),
        })
    }

    /// An error if the service is ending.
    pub(super) fn check_serving(&self) -> Result<(), SwapError> {
        if self.versions.phase() == Phase::Serving {
            Ok(())
        } else {
            Err(SwapError::Ending(self.name().to_owned()))
        }
    }

    /// Makes `handler` current, and retires the version before. With a hand-over it
    /// asks the connections of the version before to go to the new one, and again those
    /// of earlier versions that were asked before.
    pub(super) fn activate(
        self: &Arc<Self>,
        handler: Arc<Handler>,
        origin: Origin,
        reason: Option<&str>,
        mode: OldConnections,
    ) -> Result<Arc<Version>, SwapError> {
        let versions = &self.versions;
        let mut history = versions.history();
        // The phase changes only under this lock, so the service cannot end in between.
        self.check_serving()?;
        let version = versions.next(handler, origin);
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
            old.ask(version.number);
        }
        if hand_over && version.handler.takes_over() {
            // Connections that stayed when they were asked before are asked again.
            let retired = history.retired().iter();
            for earlier in retired.filter(|it| it.asks_for().is_some()) {
                earlier.ask(version.number);
            }
        }
        drop(history);
        tracing::info!(
            service = self.name(),
            version = version.number.get(),
            source = version.handler.source(),
            sha256 = version.handler.digest(),
            reason,
            "version activated"
        );
        Ok(version)
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
            (OldConnections::Drain, None) => self.versions.limits.drain_timeout,
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

/// Compiles the component for the service that `current` serves. `None` if it is the
/// current component.
fn load(incoming: Incoming, current: &Handler) -> Result<Option<Handler>, SwapError> {
    let (source, component) = match incoming {
        Incoming::Named(source) => {
            let component = builtin::load_path(&source)?;
            (text::path(source.as_ref()).into_owned(), component)
        }
        Incoming::Sent(source, component) => (source, component),
    };
    if component.digest() == current.digest() {
        return Ok(None);
    }
    let handler = Handler::new(&source, &component, current.options().clone())?;
    Ok(Some(handler))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_decides_by_itself_unless_it_is_told() {
        let options = SwapOptions::default();
        assert_eq!((options.old, options.drain_timeout), (None, None));
        assert_eq!(options.probe, None);
    }
}
