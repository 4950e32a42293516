//! Goes back to the component before, on request, or by itself when a swapped-in
//! version fails too many connections.
//!
//! A version that was taken back by itself is condemned: a rollback goes to it only if
//! it is named, and then it is on trial again.

use crate::service::swap::{Next, OldConnections, SwapError, SwapOptions, Swapped};
use crate::service::{ServiceHandle, Shared};
use crate::version::versions::Previous;
use crate::version::{Origin, Version};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

/// When a swapped-in version is taken back by itself.
///
/// The service checks this when a connection of the version fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RollbackPolicy {
    /// The highest tolerated share of failed connections, in percent of those that have
    /// ended. By default 50. 100 or more never takes a version back.
    pub percent: u8,
    /// How many connections must have ended before the version is judged. By default 5.
    pub min_ended: u32,
    /// How long after the swap the version can be taken back. By default 60 seconds.
    pub window: Duration,
    /// Which failed connections count. By default those whose instance died.
    pub on: RollbackOn,
}

/// Which failed connections count against a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RollbackOn {
    /// Those whose instance died or could not be made: traps, deadlines, memory, and
    /// panics of the host. An error that a handler returns does not count, because a
    /// peer that sends nonsense may have caused it.
    #[default]
    Fault,
    /// Also those whose handler returned an error.
    Err,
}

/// How to go back on request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RollbackOptions {
    /// The number of the version to go back to; it must be the one before. By default that
    /// one, unless it was taken back by itself.
    pub to: Option<u32>,
    /// Whether what the instance of the current version knows is left behind, as in
    /// [`SwapOptions`].
    pub discard_state: bool,
}

impl Default for RollbackPolicy {
    fn default() -> Self {
        Self {
            percent: 50,
            min_ended: 5,
            window: Duration::from_secs(60),
            on: RollbackOn::default(),
        }
    }
}

impl RollbackPolicy {
    /// Whether so many failures take a version of this age back.
    fn condemns(&self, handled: u64, failed: u64, age: Duration) -> bool {
        let ended = handled + failed;
        age <= self.window
            && ended >= u64::from(self.min_ended)
            && failed * 100 > ended * u64::from(self.percent)
    }
}

impl ServiceHandle {
    /// Makes the component before the current one current again, with the settings that it
    /// had. A canary is taken back instead. Returns as [`swap`](Self::swap) does. Connections that stay with the version that is taken
    /// back are closed at the service's drain timeout.
    pub async fn rollback(&self, options: RollbackOptions) -> Result<Swapped, SwapError> {
        let RollbackOptions { to, discard_state } = options;
        let name = self.shared.name().to_owned();
        let (old, mut swapped) = {
            let Ok(_guard) = self.shared.swapping.try_lock() else {
                return Err(SwapError::Busy(name));
            };
            let why = "asked for";
            if self.shared.versions.canary().is_some() {
                self.shared.take_canary_back(to, why)?
            } else {
                let previous = self.shared.previous(to)?;
                let old = self.shared.versions.current();
                let back = self.shared.roll_back(previous, why, false, discard_state);
                (old, back.await?)
            }
        };
        swapped.settle(&old).await;
        Ok(swapped)
    }
}

impl Shared {
    /// Returns what a rollback goes to. An error if there is nothing, or if `to` does
    /// not allow it.
    fn previous(&self, to: Option<u32>) -> Result<Previous, SwapError> {
        let name = || self.name().to_owned();
        let previous = self.versions.history().previous.clone();
        let previous = previous.ok_or_else(|| SwapError::NoPrevious(name()))?;
        match (to, &previous.condemned) {
            (Some(to), _) if to != previous.number.get() => {
                Err(SwapError::NotThere(name(), to, previous.number.get()))
            }
            (None, Some(reason)) => Err(SwapError::Condemned {
                name: name(),
                number: previous.number.get(),
                reason: reason.clone(),
            }),
            _ => Ok(previous),
        }
    }

    /// Makes `previous` current, and retires the current version for `reason`. With
    /// `condemn` the retired version is condemned.
    async fn roll_back(
        self: &Arc<Self>,
        previous: Previous,
        reason: &str,
        condemn: bool,
        discard_state: bool,
    ) -> Result<Swapped, SwapError> {
        self.check_serving()?;
        let current = self.versions.current();
        let said = format!("version {} was rolled back: {reason}", current.number);
        let old = SwapOptions::default().old_mode(&current.handler, &previous.handler)?;
        let origin = match previous.condemned {
            // On trial again.
            Some(_) => Origin::Swap,
            None => Origin::Rollback,
        };
        let hand_over = old == OldConnections::HandOver;
        let workers = self.workers_for(&previous.handler).await?;
        let succession = self.succeed(&current, &previous.handler, hand_over, discard_state);
        let succession = succession.await?;
        let (state, state_lost) = (succession.bytes, succession.lost);
        let next = Next {
            handler: previous.handler,
            origin,
            reason: Some(&said),
            mode: old,
            limits: previous.limits,
            workers,
        };
        let version = self.activate(next, succession)?;
        {
            let mut history = self.versions.history();
            if condemn && let Some(previous) = &mut history.previous {
                previous.condemned = Some(reason.to_owned());
            }
            history.rolled_back = Some(said);
        }
        // Connections that the retired version does not give up must end some time.
        self.end_old(&current, old, Some(self.versions.limits().drain_timeout));
        let mut swapped = Swapped::new(&version, Some(old), current.served());
        swapped.state = state;
        swapped.state_lost = state_lost;
        Ok(swapped)
    }

    /// Takes the current version back whenever it is on trial and fails too often.
    /// Never returns.
    ///
    /// This is a task of the service, so that no connection waits for it at its end. A
    /// failure during a swap is judged when the swap is done.
    pub(super) async fn judge_versions(self: &Arc<Self>) -> Infallible {
        loop {
            self.versions.failed().await;
            let canary = || self.versions.canary().map(|it| Arc::clone(&it.version));
            let on_trial = canary().into_iter().chain([self.versions.current()]);
            if !on_trial.into_iter().any(|it| self.condemned(&it).is_some()) {
                continue;
            }
            let _guard = self.swapping.lock().await;
            if let Some(canary) = canary()
                && let Some(reason) = self.condemned(&canary)
                && let Err(error) = self.take_canary_back(None, &reason)
            {
                tracing::warn!(service = self.name(), %error, "cannot roll back");
            }
            // A swap may have changed the current version in the meantime.
            let current = self.versions.current();
            if let Some(reason) = self.condemned(&current) {
                self.take_back(&current, &reason).await;
            }
        }
    }

    /// Why a version is to be taken back. `None` if it is not.
    pub(super) fn condemned(&self, version: &Version) -> Option<String> {
        if version.origin != Origin::Swap {
            return None;
        }
        let policy = self.rollback.load();
        let (handled, failed) = judged(version, policy.on);
        // A canary is on trial as long as it is one.
        let age = if self.versions.is_canary(version) {
            Duration::ZERO
        } else {
            version.activated().elapsed()
        };
        policy
            .condemns(handled, failed, age)
            .then(|| format!("{failed} of {} connections failed", handled + failed))
    }

    /// How many more connections must end on a version before it can be judged.
    pub(super) fn unjudged(&self, version: &Version) -> u64 {
        let policy = self.rollback.load();
        let (handled, failed) = judged(version, policy.on);
        u64::from(policy.min_ended).saturating_sub(handled + failed)
    }

    /// Takes a version back and condemns it, if there is one to go back to.
    async fn take_back(self: &Arc<Self>, version: &Version, reason: &str) {
        let Ok(previous) = self.previous(None) else {
            // There is none to go back to, or it is condemned itself: the current
            // version stays.
            return;
        };
        tracing::warn!(
            service = self.name(),
            version = version.number.get(),
            reason,
            "rolling back"
        );
        if let Err(error) = self.roll_back(previous, reason, true, false).await {
            tracing::warn!(service = self.name(), %error, "cannot roll back");
        }
    }
}

/// How many connections of a version have ended well, and how many speak against it.
fn judged(version: &Version, on: RollbackOn) -> (u64, u64) {
    let failures = version.failures();
    let failed = match on {
        RollbackOn::Fault => failures.by_instance(),
        RollbackOn::Err => failures.by_instance() + failures.error,
    };
    // Connections whose handler returned an error have ended as well.
    let handled = version.handled() + failures.by_instance() + failures.error - failed;
    (handled, failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::connection;
    use crate::guest::failure::Failure;
    use crate::service::ServiceOptions;
    use crate::service::listeners::Listeners;
    use crate::version::stay::tests::HANDLER;

    #[test]
    fn the_default_policy_is_as_documented() {
        let policy = RollbackPolicy::default();
        assert_eq!((policy.percent, policy.min_ended), (50, 5));
        assert_eq!(policy.window, Duration::from_secs(60));
        assert_eq!(policy.on, RollbackOn::Fault);
    }

    #[test]
    fn a_version_is_condemned_by_its_share_of_failures_in_the_window() {
        let policy = RollbackPolicy::default();
        let now = Duration::from_secs(1);
        assert!(!policy.condemns(0, 4, now), "too few");
        assert!(policy.condemns(0, 5, now));
        assert!(!policy.condemns(5, 5, now), "half is not more than half");
        assert!(policy.condemns(5, 6, now));
        assert!(!policy.condemns(0, 50, Duration::from_secs(61)), "too late");
        let never = RollbackPolicy {
            percent: 101,
            ..policy
        };
        assert!(!never.condemns(0, 1000, now));
    }

    /// Makes a service whose second version, from a swap, is on trial.
    fn on_trial() -> (Arc<Shared>, Arc<Version>) {
        let handler = Arc::clone(&HANDLER);
        let options = ServiceOptions::new("trial", []);
        let service = Shared::new(&options, Listeners::new(Vec::new()), Arc::clone(&handler));
        service.versions.run_on(tokio::runtime::Handle::current());
        let version = service.versions.next(handler, Origin::Swap);
        let mut history = service.versions.history();
        service.versions.replace(&mut history, &version, None);
        drop(history);
        (service, version)
    }

    fn fail(version: &Arc<Version>, failure: &dyn Fn() -> Failure) {
        let (connection, _peer) = connection();
        let admitted = version.admit(connection);
        let Ok(mut admitted) = admitted else {
            panic!("it serves");
        };
        admitted.stay.end(&Err(failure()));
    }

    fn trap() -> Failure {
        Failure::Trap("unreachable".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_version_is_on_trial_for_a_minute() {
        let (service, version) = on_trial();
        for _ in 0..5 {
            fail(&version, &trap);
        }
        let condemned = service.condemned(&version);
        assert_eq!(condemned.as_deref(), Some("5 of 5 connections failed"));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(service.condemned(&version).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(service.condemned(&version), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_condemned_version_is_taken_back_and_not_gone_to_unless_it_is_named() {
        let (service, version) = on_trial();
        for _ in 0..4 {
            fail(&version, &trap);
            fail(&version, &|| Failure::Guest("nonsense".to_owned()));
        }
        let judge = {
            let service = Arc::clone(&service);
            tokio::spawn(async move { service.judge_versions().await })
        };
        // Half of the connections have failed, which is not more than half.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(service.versions.is_current(&version));
        fail(&version, &trap);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(!service.versions.is_current(&version));
        judge.abort();
        let current = service.versions.current();
        assert_eq!(
            (current.number.get(), current.origin),
            (3, Origin::Rollback)
        );
        let refused = service.previous(None).err().unwrap();
        assert!(matches!(refused, SwapError::Condemned { number: 2, .. }));
        assert_eq!(
            service.previous(Some(2)).ok().unwrap().number,
            version.number
        );
    }
}
