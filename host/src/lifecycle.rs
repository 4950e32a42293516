//! How far the end of a service, or of a version, has come, and how versions are
//! numbered.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::watch;

/// How far the end of a service, or of a version, has come. It only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Takes connections. From here to `Draining`, or at once to `Aborting`.
    Serving,
    /// Takes no new connections; open ones finish. From here to `Aborting`.
    Draining,
    /// Open connections are closed. The last phase.
    Aborting,
}

impl Phase {
    /// Waits until `sender` has come to `phase`.
    pub(crate) async fn reached(sender: &watch::Sender<Self>, phase: Self) {
        // Whoever waits has the sender, so the channel cannot be closed.
        let _ = sender
            .subscribe()
            .wait_for(|current| *current >= phase)
            .await;
    }

    /// Goes on to `phase`; never back.
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
    /// The version that a service starts with.
    pub(crate) const FIRST: Self = Self(NonZeroU32::MIN);

    /// The number of the version after this one.
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number as it is shown.
    pub(crate) fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A version number that changes while others read it, or none.
#[derive(Debug, Default)]
pub(crate) struct AtomicVersionNumber(AtomicU32);

impl AtomicVersionNumber {
    /// The number, if there is one.
    pub(crate) fn load(&self) -> Option<VersionNumber> {
        NonZeroU32::new(self.0.load(Ordering::Relaxed)).map(VersionNumber)
    }

    /// Raises it to `number`, unless it is that or larger already. Returns the
    /// number before.
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
