//! Going back to the component before, on request, and by itself when a
//! swapped-in version fails too many connections.

use crate::service::swap::{SwapError, SwapOptions, Swapped};
use crate::service::version::{Origin, Version};
use crate::service::{Remote, Shared};
use std::sync::Arc;
use std::time::Duration;

/// When a swapped-in version is taken back by itself.
///
/// Looked at whenever a connection of it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollbackPolicy {
    /// Failed connections, in percent of those that have ended, that are too
    /// many. By default 50. Over 100 switches it off.
    pub percent: u8,
    /// Connections that must have ended before it is judged. By default 5.
    pub least: u32,
    /// How long after the swap it is judged. By default 60 seconds.
    pub window: Duration,
}

impl Default for RollbackPolicy {
    fn default() -> Self {
        Self {
            percent: 50,
            least: 5,
            window: Duration::from_secs(60),
        }
    }
}

impl RollbackPolicy {
    fn condemns(&self, handled: u64, failed: u64, age: Duration) -> bool {
        let ended = handled + failed;
        age <= self.window
            && ended >= u64::from(self.least)
            && failed * 100 > ended * u64::from(self.percent)
    }
}

impl Remote {
    /// Makes the component before the current one current again. Returns as
    /// [`swap`](Self::swap) does. What stays with the version that is taken back
    /// is closed at the service's drain timeout.
    pub async fn rollback(&self) -> Result<Swapped, SwapError> {
        let name = self.shared.name.to_string();
        let (old, mut swapped) = {
            let Ok(_guard) = self.shared.swapping.try_lock() else {
                return Err(SwapError::Busy(name));
            };
            let old = self.shared.current.load_full();
            (old, self.shared.roll_back("asked for")?)
        };
        swapped.settle(&old).await;
        Ok(swapped)
    }
}

impl Shared {
    fn roll_back(self: &Arc<Self>, reason: &str) -> Result<Swapped, SwapError> {
        self.check_serving()?;
        let current = self.current.load_full();
        let previous = self.history().previous.clone();
        let previous = previous.ok_or_else(|| SwapError::NoPrevious(self.name.to_string()))?;
        let said = format!("version {} was rolled back: {reason}", current.number);
        let old = SwapOptions::default().old_mode(&current.handler, &previous)?;
        let version = self.activate(previous, Origin::Rollback, Some(&said), old)?;
        self.history().rolled_back = Some(said);
        // What a condemned version does not give up does not stay for ever.
        self.end_old(&current, old, Some(self.limits.drain_timeout));
        Ok(Swapped {
            version: version.number,
            changed: true,
            old: Some(old),
            staying: current.open(),
            sha256: version.handler.digest().to_owned(),
        })
    }

    /// Takes `version` back if it is on trial and fails too often.
    pub(crate) fn consider_rollback(self: &Arc<Self>, version: &Arc<Version>) {
        if version.origin != Origin::Swap {
            return;
        }
        let (handled, failed) = (version.handled(), version.failures().by_handler());
        let age = version.activated().elapsed();
        if !self.rollback.condemns(handled, failed, age) {
            return;
        }
        // Whoever holds it is about to replace this version anyway.
        let Ok(_guard) = self.swapping.try_lock() else {
            return;
        };
        if !Arc::ptr_eq(version, &self.current.load()) {
            return;
        }
        let reason = format!("{failed} of {} connections failed", handled + failed);
        tracing::warn!(
            service = &*self.name,
            version = version.number,
            reason,
            "rolling back"
        );
        if let Err(error) = self.roll_back(&reason) {
            tracing::warn!(service = &*self.name, %error, "cannot roll back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_is_as_documented() {
        let policy = RollbackPolicy::default();
        assert_eq!((policy.percent, policy.least), (50, 5));
        assert_eq!(policy.window, Duration::from_secs(60));
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
}
