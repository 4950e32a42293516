//! How the descriptors of the process are shared out.
//!
//! | for | |
//! | --- | --- |
//! | what is open already | listeners, pollers, the control socket, the log |
//! | [`TO_SPARE`] | short-lived descriptors: control connections, component files, a swap's poller |
//! | refused peers | sockets that are open for a while, if peers can be refused |
//! | each permit of a service | its connection, and what its instance may open itself |
//!
//! If there are too few descriptors, a service gets fewer permits than it was asked
//! for, and further peers wait in the backlog.

use rustix::process::{Resource, getrlimit};

/// Descriptors of an event loop beside the first: those of a runtime, and a poller for each
/// of two versions.
const PER_LOOP: u64 = 6;

/// Descriptors that are reserved for short-lived use beside the connections.
const TO_SPARE: u64 = 32;

/// The fewest and the most descriptors that an instance may open by itself, if it
/// was granted directories or outgoing connections.
const MIN_OWN: u64 = 32;
const MAX_OWN: u64 = 1024;

/// The share of what is free that sockets of refused peers get at most: one part of so
/// many.
const REFUSED_SHARE: u64 = 8;

/// The limit on descriptors, and how many are open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptors {
    /// `None` means no limit.
    allowed: Option<u64>,
    open: u64,
}

impl Descriptors {
    /// Those of the process, as they are now.
    pub(crate) fn now() -> Self {
        Self {
            allowed: getrlimit(Resource::Nofile).current,
            open: std::fs::read_dir("/proc/self/fd").map_or(TO_SPARE, |open| open.count() as u64),
        }
    }

    /// The same with the descriptors of so many event loops that are still to be made.
    pub(crate) fn with_loops(self, loops: usize) -> Self {
        let more = PER_LOOP.saturating_mul(loops as u64);
        Self {
            open: self.open.saturating_add(more),
            ..self
        }
    }

    /// The same without those of so many connections, which the service has already: each
    /// has a permit, and its descriptor is not lost to the others.
    pub(crate) fn without_connections(self, held: u64) -> Self {
        Self {
            open: self.open.saturating_sub(held),
            ..self
        }
    }

    /// Returns the shares of a service that was asked for `asked` connections and wants
    /// `refused` sockets of refused peers. There are no more permits than descriptors; if
    /// that lowers the number, the log says so.
    ///
    /// `opens` says whether instances may open descriptors of their own. Each connection
    /// then has its own instance.
    pub(crate) fn shares(self, service: &str, asked: u32, opens: bool, refused: u32) -> Shares {
        let refused = self.refused(refused);
        let permits = self.permits(asked, if opens { MIN_OWN } else { 0 }, refused);
        if permits < asked {
            tracing::warn!(
                service,
                asked,
                permits,
                allowed = self.allowed,
                "the limit on open files (ulimit -n) allows fewer connections than --max-connections"
            );
        }
        Shares { permits, refused }
    }

    fn free(self) -> u64 {
        self.allowed.map_or(u64::MAX, |allowed| {
            allowed.saturating_sub(self.open.saturating_add(TO_SPARE))
        })
    }

    /// Returns how many of `wanted` sockets of refused peers can be open at once.
    fn refused(self, wanted: u32) -> u32 {
        let most = self.free() / REFUSED_SHARE;
        wanted.min(u32::try_from(most).unwrap_or(u32::MAX))
    }

    /// Returns how many connections can be open at once; at least one. `own` is the
    /// number of descriptors that each instance may open besides, and `refused` the
    /// number of sockets of refused peers.
    fn permits(self, asked: u32, own: u64, refused: u32) -> u32 {
        let most = self.free().saturating_sub(u64::from(refused)) / (1 + own);
        u32::try_from(most)
            .unwrap_or(u32::MAX)
            .clamp(1, asked.max(1))
    }

    /// Returns how many descriptors each of `instances` may open by itself.
    fn own(self, instances: u32) -> u64 {
        let each = self.free() / u64::from(instances.max(1));
        each.saturating_sub(1).clamp(MIN_OWN, MAX_OWN)
    }
}

/// How many descriptors a service may have open at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    /// One per connection.
    pub(crate) permits: u32,
    /// Sockets of refused peers.
    pub(crate) refused: u32,
}

/// Returns how many of `wanted` sockets of refused peers can be open at once beside a
/// running service with so many permits.
pub(crate) fn beside(permits: u32, wanted: u32) -> u32 {
    let left = Descriptors::now().free().saturating_sub(u64::from(permits));
    wanted.min(u32::try_from(left).unwrap_or(u32::MAX))
}

/// Returns how many descriptors each of `instances` may open by itself.
pub(crate) fn own_per_instance(instances: u32) -> usize {
    usize::try_from(Descriptors::now().own(instances)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(allowed: u64) -> Descriptors {
        Descriptors {
            allowed: Some(allowed),
            open: 20,
        }
    }

    #[test]
    fn permits_are_no_more_than_there_are_descriptors() {
        assert_eq!(with(4096).permits(1024, 0, 0), 1024);
        assert_eq!(with(64).permits(1024, 0, 0), 12);
        assert_eq!(with(10).permits(1024, 0, 0), 1);
        assert_eq!(with(4096).permits(1024, MIN_OWN, 0), 122);
        let unlimited = Descriptors {
            allowed: None,
            open: 20,
        };
        assert_eq!(unlimited.permits(1024, MIN_OWN, 0), 1024);
    }

    #[test]
    fn sockets_of_refused_peers_have_their_share() {
        assert_eq!(with(4096).refused(256), 256);
        assert_eq!(with(1024).refused(256), 121);
        assert_eq!(with(64).refused(256), 1);
        for allowed in 52..2000 {
            let descriptors = with(allowed);
            let refused = descriptors.refused(256);
            let permits = descriptors.permits(1024, 0, refused);
            let all = u64::from(permits + refused);
            assert!(permits == 1 || all <= descriptors.free(), "{allowed}");
        }
    }

    #[test]
    fn what_a_service_has_already_is_not_taken_from_it() {
        let busy = Descriptors {
            allowed: Some(1024),
            open: 620,
        };
        let at_rest = Descriptors { open: 20, ..busy };
        let permits = |it: Descriptors| it.permits(1024, 0, 0);
        assert!(permits(busy) < 600);
        assert_eq!(permits(busy.without_connections(600)), permits(at_rest));
    }

    #[test]
    fn permits_with_what_their_instances_open_fit() {
        for allowed in (100..200_000).step_by(997) {
            let descriptors = with(allowed);
            for asked in [1, 10, 1024, 10_000] {
                let permits = u64::from(descriptors.permits(asked, MIN_OWN, 0));
                let own = descriptors.own(asked);
                assert!(
                    permits == 1 || permits * (1 + own) <= descriptors.free(),
                    "{allowed} {asked}: {permits} {own}"
                );
            }
        }
    }
}
