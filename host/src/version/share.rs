//! Datagrams that a version has taken, as it counts them.

use crate::guest::failure::{Failure, HostPanic};
use crate::version::Version;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The datagrams of one batch, while they are with a guest of a version. The version
/// counts each of them as open for as long as this exists.
///
/// How they ended is counted once, by [`end`](Self::end). A share that is dropped without
/// that was lost in a panic of the host, and its datagrams count as failed by a panic.
pub(crate) struct Share {
    version: Arc<Version>,
    count: u64,
    is_counted: bool,
}

impl Version {
    /// Counts datagrams on this version. `None` if the version takes no more.
    ///
    /// They are counted before the phase is read, as connections are
    /// ([`admit`](Self::admit)).
    pub(crate) fn take(self: &Arc<Self>, count: usize) -> Option<Share> {
        let count = count as u64;
        self.open.fetch_add(count, Ordering::Relaxed);
        let mut share = Share {
            version: Arc::clone(self),
            count,
            is_counted: false,
        };
        if self.is_serving() {
            Some(share)
        } else {
            share.is_counted = true;
            None
        }
    }
}

impl Share {
    /// The version that counts them.
    pub(crate) fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Counts how the guest's call for them ended.
    pub(crate) fn end(mut self, outcome: &Result<(), Failure>) {
        self.is_counted = true;
        self.version.count(outcome, self.count);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if !self.is_counted {
            let panic = Err(Failure::Panic(HostPanic::unknown()));
            self.version.count(&panic, self.count);
        }
        let left = self.version.open.fetch_sub(self.count, Ordering::Release);
        if left == self.count {
            self.version.fewer.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FailureCounts;
    use crate::lifecycle::VersionNumber;
    use crate::version::Origin;
    use crate::version::stay::tests::HANDLER;

    #[test]
    fn datagrams_are_counted_once_however_they_end() {
        let counts = |end: &dyn Fn(Share)| {
            let handler = Arc::clone(&HANDLER);
            let version =
                Version::new(VersionNumber::FIRST, handler, Origin::Start, Arc::default());
            let share = version.take(3).unwrap();
            assert_eq!((version.open(), share.count()), (3, 3));
            end(share);
            assert_eq!(version.open(), 0);
            version.retire(None);
            assert!(version.take(2).is_none());
            assert!(version.has_ended());
            (version.handled(), version.failures())
        };
        let none = FailureCounts::default();
        assert_eq!(counts(&|share| share.end(&Ok(()))), (3, none));
        let aborted = FailureCounts { aborted: 3, ..none };
        assert_eq!(
            counts(&|share| share.end(&Err(Failure::Aborted))),
            (0, aborted)
        );
        let panic = FailureCounts { panic: 3, ..none };
        assert_eq!(counts(&|share| drop(share)), (0, panic));
    }
}
