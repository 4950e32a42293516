//! How full the room is: how many bytes are in all queues together, and whether reading
//! stops for that.

/// Identifies a hold: a time during which the shell does not read. Never used twice.
pub type HoldId = u64;

/// The number of bytes in all queues, and what follows from it.
#[derive(Debug)]
pub(crate) struct Fill {
    bytes: usize,
    limit: usize,
    /// Bytes for members that do not read: those that were queued when a hold ended by
    /// time, or fewer by now. They do not count for a hold.
    stuck: usize,
    hold: Option<HoldId>,
    holds: HoldId,
}

impl Fill {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            bytes: 0,
            limit,
            stuck: 0,
            hold: None,
            holds: 0,
        }
    }

    pub(crate) fn fits(&self, count: usize) -> bool {
        self.bytes.saturating_add(count) <= self.limit
    }

    pub(crate) fn add(&mut self, count: usize) {
        self.bytes += count;
        // In the last eighth a hold would leave room for a few lines only.
        if self.hold.is_none() && self.is_tight() && self.rest() > self.limit / 8 {
            self.holds += 1;
            self.hold = Some(self.holds);
        }
    }

    pub(crate) fn remove(&mut self, count: usize) {
        self.bytes -= count;
        self.stuck = self.stuck.min(self.bytes);
        // Well below the beginning of a hold; otherwise every line would wake all readers.
        if self.bytes - self.stuck <= self.rest() / 4 {
            self.hold = None;
        }
    }

    /// Whether more than half of the limit is used, without what is stuck.
    pub(crate) fn is_tight(&self) -> bool {
        self.bytes - self.stuck > self.rest() / 2
    }

    fn rest(&self) -> usize {
        self.limit.saturating_sub(self.stuck)
    }

    pub(crate) fn hold(&self) -> Option<HoldId> {
        self.hold
    }

    pub(crate) fn end_hold(&mut self, hold: HoldId) {
        if self.hold == Some(hold) {
            self.hold = None;
            self.stuck = self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Act {
        Add(usize),
        Remove(usize),
        End(HoldId),
    }
    use Act::{Add, End, Remove};

    /// Does steps with a limit of 100, and checks the hold after each.
    #[track_caller]
    fn check(steps: &[(Act, Option<HoldId>)]) {
        let mut fill = Fill::new(100);
        for (number, (act, hold)) in steps.iter().enumerate() {
            match *act {
                Add(count) => fill.add(count),
                Remove(count) => fill.remove(count),
                End(hold) => fill.end_hold(hold),
            }
            assert_eq!(fill.hold(), *hold, "step {number}");
        }
    }

    #[test]
    fn a_hold_lasts_from_a_half_to_a_quarter() {
        check(&[
            (Add(50), None),
            (Add(1), Some(1)),
            (Remove(25), Some(1)),
            (Add(40), Some(1)),
            (Remove(41), None),
            (Add(25), None),
            (Add(1), Some(2)),
            (Remove(51), None),
        ]);
    }

    #[test]
    fn what_is_stuck_does_not_count_for_a_hold() {
        // Now the thresholds are half and a quarter of the 40 that are left.
        check(&[
            (Add(60), Some(1)),
            (End(1), None),
            (Add(20), None),
            (Add(1), Some(2)),
            (Remove(10), Some(2)),
            (Remove(1), None),
            (Add(10), None),
            (Add(1), Some(3)),
        ]);
        // What was written after all was not stuck.
        check(&[
            (Add(60), Some(1)),
            (End(1), None),
            (Remove(60), None),
            (Add(50), None),
            (Add(1), Some(2)),
        ]);
    }

    /// A stuck room is filled up to its limit after a few holds.
    #[test]
    fn holds_are_few() {
        check(&[
            (Add(51), Some(1)),
            (End(1), None),
            (Add(25), Some(2)),
            (End(2), None),
            (Add(13), Some(3)),
            (End(3), None),
            (Add(11), None),
            (Add(1), None),
            (Remove(1), None),
        ]);
    }

    #[test]
    fn only_the_present_hold_can_be_ended() {
        check(&[
            (End(1), None),
            (Add(51), Some(1)),
            (Remove(51), None),
            (Add(51), Some(2)),
            (End(1), Some(2)),
            (End(2), None),
        ]);
    }

    #[test]
    fn it_may_be_filled_to_its_limit() {
        let mut fill = Fill::new(100);
        fill.add(40);
        assert!(fill.fits(60));
        assert!(!fill.fits(61));
        assert!(!fill.fits(usize::MAX));
    }
}
