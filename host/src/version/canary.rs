//! A version that gets a share of the new connections before it becomes current.

use crate::version::Version;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A version on trial beside the current one.
pub(crate) struct Canary {
    pub(crate) version: Arc<Version>,
    /// How many of 100 new connections go to it: 1 to 100.
    pub(crate) percent: u8,
    /// How many new connections there were since it began, its own included.
    seen: AtomicU64,
}

impl Canary {
    pub(crate) fn new(version: Arc<Version>, percent: u8) -> Self {
        Self {
            version,
            percent,
            seen: AtomicU64::new(0),
        }
    }

    /// Whether the next new connection goes to it. Of any 100 in a row exactly `percent`
    /// do, with the same distance between them, and the first is one of them.
    pub(super) fn takes_next(&self) -> bool {
        let number = self.seen.fetch_add(1, Ordering::Relaxed) % 100;
        let percent = u64::from(self.percent);
        number * percent % 100 < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::VersionNumber;
    use crate::version::Origin;
    use crate::version::stay::tests::HANDLER;

    #[test]
    fn of_any_hundred_in_a_row_it_gets_its_share() {
        for percent in 1..=100 {
            let version = Version::new(
                VersionNumber::FIRST,
                Arc::clone(&HANDLER),
                Origin::Swap,
                Arc::default(),
            );
            let canary = Canary::new(version, percent);
            let taken: Vec<_> = (0..250).map(|_| canary.takes_next()).collect();
            assert!(taken[0], "{percent}");
            for hundred in taken.windows(100) {
                let count = hundred.iter().filter(|it| **it).count();
                assert_eq!(count, usize::from(percent));
            }
        }
    }
}
