//! A canary: a new version that gets a share of the new connections before it becomes
//! current for all.
//!
//! ```text
//! begin_canary ──> canary ── its time is over, and enough connections have ended, or
//!                    │       by request ──> promote_canary: current, as by a swap
//!                    └─ the rollback rule, or by request ──> take_canary_back: retired
//! ```
//!
//! Open connections stay with the current version, which is current all the time. While
//! there is a canary there is no other swap. The service's end ends it, too.

use super::{CanaryOptions, OldConnections, SwapError, SwapOptions, Swapped, ask_all};
use crate::dispatch;
use crate::guest::handler::Handler;
use crate::limits::Limits;
use crate::service::{ServiceHandle, Shared};
use crate::sync::lock;
use crate::version::versions::Promoted;
use crate::version::workers::Workers;
use crate::version::{Origin, Version};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What is done when a canary becomes current.
#[derive(Clone)]
pub(in crate::service) struct Trial {
    /// What becomes of the connections of the version before.
    pub(super) old: OldConnections,
    pub(super) drain_timeout: Option<Duration>,
    /// Whether its instances have other limits than those of the version before.
    pub(super) changes_limits: bool,
}

/// An error if `new` cannot get a share of the connections beside `old`.
pub(super) fn check_canary(
    old: &Handler,
    new: &Handler,
    options: &SwapOptions,
) -> Result<(), SwapError> {
    let reason = if new.contract().takes_datagrams() {
        "a datagram belongs to no connection, and who sends several would be answered by both \
         versions in turn; swap without --canary"
    } else if old.keeps_state() && !options.discard_state {
        "what the instance knows (instance-state) cannot be in two instances; swap without \
         --canary, or with --discard-state"
    } else if old.dispatch() != new.dispatch() {
        "the dispatch says how new connections take turns, and is one for all; change it by a \
         swap without --canary"
    } else if options.changes.limits.change_service() {
        "limits of the service hold for all its connections; change them by a swap without \
         --canary"
    } else {
        return Ok(());
    };
    Err(SwapError::Unshared {
        name: new.source().to_owned(),
        reason,
    })
}

impl ServiceHandle {
    /// Makes the canary current before its time. Returns as [`swap`](Self::swap) does.
    pub async fn promote(&self) -> Result<Swapped, SwapError> {
        let (old, mut swapped) = {
            let Ok(_guard) = self.shared.swapping.try_lock() else {
                return Err(SwapError::Busy(self.shared.name().to_owned()));
            };
            self.shared.promote_canary("asked for")?
        };
        swapped.settle(&old).await;
        Ok(swapped)
    }
}

impl Shared {
    /// An error if a canary is under way.
    pub(super) fn check_no_canary(&self) -> Result<(), SwapError> {
        match self.versions.canary() {
            None => Ok(()),
            Some(canary) => Err(SwapError::Canary {
                name: self.name().to_owned(),
                number: canary.version.number.get(),
            }),
        }
    }

    /// Lets `handler` have a share of the new connections. Called with the lock of swaps.
    pub(super) fn begin_canary(
        self: &Arc<Self>,
        handler: Arc<Handler>,
        workers: Option<Arc<Workers>>,
        options: CanaryOptions,
        trial: Trial,
    ) -> Result<Swapped, SwapError> {
        let versions = &self.versions;
        let mut history = versions.history();
        // The phase changes only under this lock, so the service cannot end in between.
        self.check_serving()?;
        let version = versions.next(handler, Origin::Swap);
        if let Some(workers) = workers {
            version.work_on(workers);
        }
        dispatch::start(versions, &version).map_err(|error| SwapError::Host(error.to_string()))?;
        version.open_gate();
        let old = trial.old;
        *lock(&self.trial) = Some(trial);
        versions.begin_canary(&mut history, &version, options.percent);
        drop(history);
        tracing::info!(
            service = self.name(),
            version = version.number.get(),
            source = version.handler.source(),
            sha256 = version.handler.digest(),
            percent = options.percent,
            "canary begun"
        );
        let (service, canary) = (Arc::clone(self), Arc::downgrade(&version));
        versions.spawn_task(async move { service.promote_in_time(canary, options.time).await });
        let staying = versions.current().served();
        let mut swapped = Swapped::new(&version, Some(old), staying);
        swapped.canary = Some(options.percent);
        Ok(swapped)
    }

    /// Makes a canary current when its time is over and enough of its connections have
    /// ended. Returns early if it is no canary any more.
    async fn promote_in_time(self: Arc<Self>, canary: Weak<Version>, time: Duration) {
        tokio::time::sleep(time).await;
        let mut has_said = false;
        // A weak reference until here: the version must be able to go with its last
        // connection.
        let Some(canary) = canary.upgrade() else {
            return;
        };
        while self.versions.is_canary(&canary) && self.unjudged(&canary) > 0 {
            if !std::mem::replace(&mut has_said, true) {
                tracing::info!(
                    service = self.name(),
                    version = canary.number.get(),
                    missing = self.unjudged(&canary),
                    "the canary's time is over, and it waits for more of its connections to end \
                     (--rollback-least)"
                );
            }
            tokio::select! {
                () = canary.another_ended() => {}
                () = canary.ended() => return,
            }
        }
        let _guard = self.swapping.lock().await;
        // What condemns it is done by who judges the versions.
        if self.versions.is_canary(&canary)
            && self.condemned(&canary).is_none()
            && let Err(error) = self.promote_canary("its time is over")
        {
            tracing::info!(service = self.name(), %error, "the canary does not become current");
        }
    }

    /// Makes the canary current. Returns the version before, and what has come of it.
    /// Called with the lock of swaps.
    fn promote_canary(
        self: &Arc<Self>,
        reason: &str,
    ) -> Result<(Arc<Version>, Swapped), SwapError> {
        let no_canary = || SwapError::NoCanary(self.name().to_owned());
        let mut history = self.versions.history();
        self.check_serving()?;
        let trial = lock(&self.trial).take();
        let promoted = self.versions.promote(&mut history);
        let Some((trial, Promoted { old, version })) = trial.zip(promoted) else {
            return Err(no_canary());
        };
        if trial.old == OldConnections::HandOver {
            ask_all(&self.versions, &history, &old, &version);
        }
        let limits = trial.changes_limits.then(|| {
            let of_instances = version.handler.limits();
            Limits {
                max_memory_bytes: of_instances.max_memory_bytes,
                deadline: of_instances.deadline,
                ..Limits::clone(&self.asked.load())
            }
        });
        self.note_limits(&mut history, limits.as_ref());
        drop(history);
        if let Some(limits) = limits {
            self.set_limits(limits);
        }
        self.end_all_old(&old, trial.old, trial.drain_timeout);
        tracing::info!(
            service = self.name(),
            version = version.number.get(),
            source = version.handler.source(),
            sha256 = version.handler.digest(),
            "version activated, it was a canary: {reason}"
        );
        let swapped = Swapped::new(&version, Some(trial.old), old.served());
        Ok((old, swapped))
    }

    /// Retires the canary, and treats its open connections as a rollback does. `to` is the
    /// version that was named. Returns the canary, and what has come of it. Called with the
    /// lock of swaps.
    pub(in crate::service) fn take_canary_back(
        &self,
        to: Option<u32>,
        reason: &str,
    ) -> Result<(Arc<Version>, Swapped), SwapError> {
        let name = || self.name().to_owned();
        let current = self.versions.current();
        let number = current.number.get();
        if let Some(to) = to.filter(|to| *to != number) {
            return Err(SwapError::NotThere(name(), to, number));
        }
        let mut history = self.versions.history();
        self.check_serving()?;
        let Some(canary) = self.versions.canary() else {
            return Err(SwapError::NoCanary(name()));
        };
        let canary = Arc::clone(&canary.version);
        let said = format!("version {} was taken back: {reason}", canary.number);
        let old = SwapOptions::default().old_mode(&canary.handler, &current.handler)?;
        *lock(&self.trial) = None;
        self.versions.end_canary(&mut history, Some(&said));
        if old == OldConnections::HandOver {
            dispatch::ask(&self.versions, &canary, current.number);
        }
        history.rolled_back = Some(said);
        drop(history);
        tracing::warn!(
            service = self.name(),
            version = canary.number.get(),
            reason,
            "canary taken back"
        );
        // Connections that it does not give up must end some time.
        self.end_old(&canary, old, Some(self.versions.limits().drain_timeout));
        let swapped = Swapped::new(&current, Some(old), canary.served());
        Ok((canary, swapped))
    }
}
