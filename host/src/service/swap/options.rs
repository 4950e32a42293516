//! How to swap.

use super::{SettingChanges, SwapError};
use crate::guest::handler::Handler;
use crate::service::probe::Probe;
use std::time::Duration;

/// A version that gets a share of the new connections before it becomes current.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanaryOptions {
    /// How many of 100 new connections go to it, 1 to 100.
    pub percent: u8,
    /// How long, at least, before it becomes current. By default 60 seconds.
    pub time: Duration,
}

impl CanaryOptions {
    /// How long a canary is one if nothing else is said.
    pub const TIME: Duration = Duration::from_secs(60);

    /// Parses a share of connections: a whole number from 1 to 100.
    pub fn parse_percent(text: &str) -> Result<u8, &'static str> {
        let percent = text.parse().ok().filter(|it| (1..=100).contains(it));
        percent.ok_or("it must be a whole number from 1 to 100")
    }
}

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
    /// Whether what the instance of the old version knows is left behind. By default it
    /// passes to the new version, and a new version that does not take it is refused.
    pub discard_state: bool,
    /// Settings that change with the swap. By default none.
    pub changes: SettingChanges,
    /// The new version gets a share of the new connections first. By default it becomes
    /// current at once.
    pub canary: Option<CanaryOptions>,
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

    /// Leaves behind what the instance of the old version knows.
    #[must_use]
    pub fn discard_state(mut self) -> Self {
        self.discard_state = true;
        self
    }

    /// Changes settings with the swap.
    #[must_use]
    pub fn changes(mut self, changes: SettingChanges) -> Self {
        self.changes = changes;
        self
    }

    /// Lets the new version have a share of the new connections first.
    #[must_use]
    pub fn canary(mut self, canary: CanaryOptions) -> Self {
        self.canary = Some(canary);
        self
    }

    /// Decides what becomes of the connections of `old`. An error if a hand-over was
    /// asked for and one of the handlers cannot do it.
    pub(in crate::service) fn old_mode(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_decides_by_itself_unless_it_is_told() {
        let options = SwapOptions::default();
        assert_eq!((options.old, options.drain_timeout), (None, None));
        assert_eq!(options.probe, None);
        assert!(!options.discard_state);
        assert!(options.changes.is_empty());
        assert_eq!(options.canary, None);
        assert!(SwapOptions::default().discard_state().discard_state);
        let (timeout, probe) = (Duration::from_secs(3), Probe::new("ping", "pong"));
        let options = options
            .old(OldConnections::Drain)
            .drain_timeout(timeout)
            .probe(probe.clone());
        assert_eq!(options.old, Some(OldConnections::Drain));
        assert_eq!(options.drain_timeout, Some(timeout));
        assert_eq!(options.probe, Some(probe));
    }

    #[test]
    fn a_share_is_one_to_a_hundred_percent() {
        assert_eq!(CanaryOptions::parse_percent("1"), Ok(1));
        assert_eq!(CanaryOptions::parse_percent("100"), Ok(100));
        for text in ["", "0", "101", "-1", "5%", "5.0", "256", "abc"] {
            assert!(CanaryOptions::parse_percent(text).is_err(), "{text}");
        }
        assert_eq!(CanaryOptions::TIME, Duration::from_secs(60));
    }
}
