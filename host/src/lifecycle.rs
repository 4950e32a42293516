//! The phases of a service or a version, the numbers of versions, and how much a service
//! takes in its life.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tokio::sync::{Notify, watch};

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

/// The phase that a service or a version is in, and who waits for a later one.
///
/// Each open connection waits for the end of its service or version. A draining does not wake
/// them: a task that is woken looks whether its guest goes on, and thousands of tasks would do
/// that at the same time.
#[derive(Debug)]
pub(crate) struct Life {
    phase: watch::Sender<Phase>,
    is_aborting: watch::Sender<bool>,
}

impl Life {
    /// Begins with [`Phase::Serving`].
    pub(crate) fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Serving),
            is_aborting: watch::Sender::new(false),
        }
    }

    /// The phase now.
    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The phase, as it changes.
    pub(crate) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Moves to `phase`, if that is a later phase.
    pub(crate) fn advance(&self, phase: Phase) {
        Phase::advance(&self.phase, phase);
        if phase == Phase::Aborting {
            self.is_aborting.send_replace(true);
        }
    }

    /// Waits until the phase is `phase` or a later one.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The channels cannot be closed: their senders are here.
        if phase == Phase::Aborting {
            let _ = self.is_aborting.subscribe().wait_for(|is| *is).await;
        } else {
            let _ = self.phases().wait_for(|current| *current >= phase).await;
        }
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

impl From<VersionNumber> for AtomicVersionNumber {
    fn from(number: VersionNumber) -> Self {
        Self(AtomicU32::new(number.get()))
    }
}

impl AtomicVersionNumber {
    /// Returns the number, if there is one.
    pub(crate) fn load(&self) -> Option<VersionNumber> {
        NonZeroU32::new(self.0.load(Ordering::Relaxed)).map(VersionNumber)
    }

    /// Sets the number.
    pub(crate) fn set(&self, number: VersionNumber) {
        self.0.store(number.get(), Ordering::Relaxed);
    }

    /// Sets the number, or removes it.
    pub(crate) fn store(&self, number: Option<VersionNumber>) {
        let number = number.map_or(0, VersionNumber::get);
        self.0.store(number, Ordering::Relaxed);
    }

    /// Raises the number to `number`, unless it is already that or larger. Returns
    /// the number from before.
    pub(crate) fn raise(&self, number: VersionNumber) -> Option<VersionNumber> {
        let before = self.0.fetch_max(number.get(), Ordering::Relaxed);
        NonZeroU32::new(before).map(VersionNumber)
    }
}

/// How many connections or datagrams a service still takes in its life.
#[derive(Debug)]
pub(crate) struct Quota {
    /// `None` if it takes any number.
    left: Option<AtomicU64>,
    /// Notified when nothing is left.
    spent: Notify,
}

impl Quota {
    /// Makes a quota of so many; without a number there is no end of it.
    pub(crate) fn new(most: Option<NonZeroU64>) -> Self {
        Self {
            left: most.map(|most| most.get().into()),
            spent: Notify::new(),
        }
    }

    /// How many may still be taken.
    pub(crate) fn left(&self) -> u64 {
        match &self.left {
            Some(left) => left.load(Ordering::Relaxed),
            None => u64::MAX,
        }
    }

    /// Whether nothing may be taken any more.
    pub(crate) fn is_spent(&self) -> bool {
        self.left() == 0
    }

    /// Counts some that were taken; no more than are left. All of a service are taken on
    /// one thread.
    pub(crate) fn take(&self, count: u64) {
        if let Some(left) = &self.left {
            let still = left.load(Ordering::Relaxed).saturating_sub(count);
            left.store(still, Ordering::Relaxed);
            if still == 0 {
                self.spent.notify_one();
            }
        }
    }

    /// Waits until nothing may be taken any more.
    pub(crate) async fn spent(&self) {
        while !self.is_spent() {
            self.spent.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Wake, Waker};

    #[test]
    fn a_phase_only_goes_forward() {
        let phase = watch::Sender::new(Phase::Serving);
        Phase::advance(&phase, Phase::Aborting);
        Phase::advance(&phase, Phase::Draining);
        assert_eq!(*phase.borrow(), Phase::Aborting);
    }

    /// Counts how often it wakes.
    #[derive(Default)]
    struct Wakes(AtomicU32);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_for_the_last_phase_is_not_woken_before() {
        let life = Life::new();
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(Arc::clone(&wakes));
        let mut context = Context::from_waker(&waker);
        let mut aborting = pin!(life.reached(Phase::Aborting));
        assert!(aborting.as_mut().poll(&mut context).is_pending());
        life.advance(Phase::Draining);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        let mut draining = pin!(life.reached(Phase::Draining));
        assert!(draining.as_mut().poll(&mut context).is_ready());
        life.advance(Phase::Aborting);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert!(aborting.as_mut().poll(&mut context).is_ready());
        let mut draining = pin!(life.reached(Phase::Draining));
        assert!(draining.as_mut().poll(&mut context).is_ready());
    }

    #[tokio::test]
    async fn a_quota_is_spent_by_what_is_taken() {
        let quota = Quota::new(NonZeroU64::new(3));
        quota.take(2);
        assert_eq!((quota.left(), quota.is_spent()), (1, false));
        quota.take(1);
        assert!(quota.is_spent());
        quota.spent().await;
        let endless = Quota::new(None);
        endless.take(1000);
        assert!(!endless.is_spent());
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
