//! Why a peer was refused, and how many were.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a peer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// A block denies its address, or no block allows it.
    Rules,
    /// It came at another time of the day.
    AccessTimes,
    /// Its source has as many connections as one may have.
    ConnectionsPerSource,
    /// Its source makes connections too fast, or sends datagrams too fast.
    RatePerSource,
}

impl fmt::Display for Refusal {
    /// As in the status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rules => "rules",
            Self::AccessTimes => "access-times",
            Self::ConnectionsPerSource => "connections-per-source",
            Self::RatePerSource => "rate-per-source",
        })
    }
}

/// Refused peers, by reason, at one moment. They cost no instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct RefusedCounts {
    /// A block denies their address, or no block allows it (`--allow`, `--deny`).
    pub rules: u64,
    /// They came at another time of the day (`--access-times`).
    pub access_times: u64,
    /// Their source had as many connections as one may have
    /// (`--max-connections-per-source`).
    pub connections_per_source: u64,
    /// Their source was too fast (`--connections-per-second-per-source`).
    pub rate_per_source: u64,
    /// The handler did not let them in (`verify`).
    #[serde(default)]
    pub handler: u64,
}

impl RefusedCounts {
    /// All refused peers.
    pub fn total(&self) -> u64 {
        let by_source = self.connections_per_source + self.rate_per_source;
        self.rules + self.access_times + by_source + self.handler
    }
}

/// Counts refused peers, by reason.
#[derive(Debug, Default)]
pub(super) struct Refused {
    rules: AtomicU64,
    access_times: AtomicU64,
    connections_per_source: AtomicU64,
    rate_per_source: AtomicU64,
}

impl Refused {
    pub(super) fn count(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::Rules => &self.rules,
            Refusal::AccessTimes => &self.access_times,
            Refusal::ConnectionsPerSource => &self.connections_per_source,
            Refusal::RatePerSource => &self.rate_per_source,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads all counters.
    pub(super) fn counts(&self) -> RefusedCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RefusedCounts {
            rules: get(&self.rules),
            access_times: get(&self.access_times),
            connections_per_source: get(&self.connections_per_source),
            rate_per_source: get(&self.rate_per_source),
            handler: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reason has a counter, under the name that the log has for it.
    #[test]
    fn each_is_counted_under_its_name() {
        for refusal in [
            Refusal::Rules,
            Refusal::AccessTimes,
            Refusal::ConnectionsPerSource,
            Refusal::RatePerSource,
        ] {
            let refused = Refused::default();
            refused.count(refusal);
            assert_eq!(refused.counts().total(), 1);
            let counts = serde_json::to_value(refused.counts()).unwrap();
            assert_eq!(counts[refusal.to_string()], 1, "{counts}");
        }
    }
}
