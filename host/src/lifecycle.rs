//! The phases of a service or a version, and the numbers of versions.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::watch;

/// The phase of a service or a version. A phase only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Takes connections. Next: `Draining`, or directly `Aborting`.
    Serving,
    /// Takes no new connections; open ones finish. Next: `Aborting`.
    Draining,
    /// Closes open connections. The last phase.
    Aborting,
}

impl Phase {
    /// Waits until the phase of `sender` is `phase` or a later one.
    pub(crate) async fn reached(sender: &watch::Sender<Self>, phase: Self) {
        // The channel cannot be closed: the caller has its sender.
        let _ = sender
            .subscribe()
            .wait_for(|current| *current >= phase)
            .await;
    }

    /// Moves to `phase`, if that is a later phase.
    pub(crate) fn advance(sender: &watch::Sender<Self>, phase: Self) {
        sender.send_if_modified(|current| {
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
    }
}

/// The number of a version of a service's handler. The first version has the number
/// 1; a later version has a larger number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct VersionNumber(NonZeroU32);

impl VersionNumber {
    /// The number of the version that a service starts with.
    pub(crate) const FIRST: Self = Self(NonZeroU32::MIN);

    /// Returns the number after this one.
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns the number as it is shown.
    pub(crate) fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A version number that one thread changes while others read it. It may be absent.
#[derive(Debug, Default)]
pub(crate) struct AtomicVersionNumber(AtomicU32);

impl AtomicVersionNumber {
    /// Returns the number, if there is one.
    pub(crate) fn load(&self) -> Option<VersionNumber> {
        NonZeroU32::new(self.0.load(Ordering::Relaxed)).map(VersionNumber)
    }

    /// Sets the number.
    pub(crate) fn set(&self, number: VersionNumber) {
        self.0.store(number.get(), Ordering::Relaxed);
    }

    /// Raises the number to `number`, unless it is already that or larger. Returns
    /// the number from before.
    pub(crate) fn raise(&self, number: VersionNumber) -> Option<VersionNumber> {
        let before = self.0.fetch_max(number.get(), Ordering::Relaxed);
        NonZeroU32::new(before).map(VersionNumber)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_only_goes_forward() {
        let phase = watch::Sender::new(Phase::Serving);
        Phase::advance(&phase, Phase::Aborting);
        Phase::advance(&phase, Phase::Draining);
        assert_eq!(*phase.borrow(), Phase::Aborting);
    }

    #[test]
    fn numbers_count_up_from_one() {
        assert_eq!(VersionNumber::FIRST.get(), 1);
        assert_eq!(VersionNumber::FIRST.next().get(), 2);
        let number = AtomicVersionNumber::default();
        assert_eq!(number.load(), None);
        let third = VersionNumber::FIRST.next().next();
        assert_eq!(number.raise(third), None);
        assert_eq!(number.raise(VersionNumber::FIRST), Some(third));
        assert_eq!(number.load(), Some(third));
    }
}
