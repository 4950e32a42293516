//! How the descriptors of the process are shared out.
//!
//! | for | |
//! | --- | --- |
//! | what is open already | listeners, pollers, the control socket, the log |
//! | [`TO_SPARE`] | short-lived descriptors: control connections, component files, a swap's poller |
//! | each permit of a service | its connection, and what its instance may open itself |
//!
//! If there are too few descriptors, a service gets fewer permits than it was asked
//! for, and further peers wait in the backlog.

use rustix::process::{Resource, getrlimit};

/// Descriptors that are reserved for short-lived use beside the connections.
const TO_SPARE: u64 = 32;

/// The fewest and the most descriptors that an instance may open by itself, if it
/// was granted directories or outgoing connections.
const MIN_OWN: u64 = 32;
const MAX_OWN: u64 = 1024;

/// The limit on descriptors, and how many are open.
#[derive(Clone, Copy, Debug)]
struct Descriptors {
    /// `None` means no limit.
    allowed: Option<u64>,
    open: u64,
}

impl Descriptors {
    fn now() -> Self {
        Self {
            allowed: getrlimit(Resource::Nofile).current,
            open: std::fs::read_dir("/proc/self/fd").map_or(TO_SPARE, |open| open.count() as u64),
        }
    }

    fn free(self) -> u64 {
        self.allowed.map_or(u64::MAX, |allowed| {
            allowed.saturating_sub(self.open.saturating_add(TO_SPARE))
        })
    }

    /// Returns how many connections can be open at once; at least one. `own` is the
    /// number of descriptors that each instance may open besides.
    fn permits(self, asked: u32, own: u64) -> u32 {
        let most = self.free() / (1 + own);
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

/// Returns the permits of a service that was asked for `asked`. There are no more
/// permits than descriptors; if that lowers the number, the log says so.
///
/// `opens` says whether instances may open descriptors of their own. Each
/// connection then has its own instance.
pub(crate) fn permits(service: &str, asked: u32, opens: bool) -> u32 {
    let now = Descriptors::now();
    let permits = now.permits(asked, if opens { MIN_OWN } else { 0 });
    if permits < asked {
        tracing::warn!(
            service,
            asked,
            permits,
            allowed = now.allowed,
            "the limit on open files (ulimit -n) allows fewer connections than --max-connections"
        );
    }
    permits
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
        assert_eq!(with(4096).permits(1024, 0), 1024);
        assert_eq!(with(64).permits(1024, 0), 12);
        assert_eq!(with(10).permits(1024, 0), 1);
        assert_eq!(with(4096).permits(1024, MIN_OWN), 122);
        let unlimited = Descriptors {
            allowed: None,
            open: 20,
        };
        assert_eq!(unlimited.permits(1024, MIN_OWN), 1024);
    }

    #[test]
    fn permits_with_what_their_instances_open_fit() {
        for allowed in (100..200_000).step_by(997) {
            let descriptors = with(allowed);
            for asked in [1, 10, 1024, 10_000] {
                let permits = u64::from(descriptors.permits(asked, MIN_OWN));
                let own = descriptors.own(asked);
                assert!(
                    permits == 1 || permits * (1 + own) <= descriptors.free(),
                    "{allowed} {asked}: {permits} {own}"
                );
            }
        }
    }
}
