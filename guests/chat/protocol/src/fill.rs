//! How full the room is: what waits for all members together, and whether the
//! readers hold back for it.

/// One time during which the readers hold back. Never used twice.
pub type HoldId = u64;

/// The bytes that wait for all members.
#[derive(Debug)]
pub(crate) struct Fill {
    bytes: usize,
    limit: usize,
    state: State,
    holds: HoldId,
}

#[derive(Debug)]
enum State {
    Reading,
    Held(HoldId),
    /// A hold has ended by time and not by what was written.
    Overdue,
}

impl Fill {
    pub(crate) fn new(limit: usize) -> Fill {
        Fill {
            bytes: 0,
            limit,
            state: State::Reading,
            holds: 0,
        }
    }

    pub(crate) fn fits(&self, count: usize) -> bool {
        self.bytes.saturating_add(count) <= self.limit
    }

    pub(crate) fn add(&mut self, count: usize) {
        self.bytes += count;
        if matches!(self.state, State::Reading) && self.bytes > self.limit / 2 {
            self.holds += 1;
            self.state = State::Held(self.holds);
        }
    }

    pub(crate) fn remove(&mut self, count: usize) {
        self.bytes -= count;
        // Well below where it began, or every line would wake all readers.
        if self.bytes <= self.limit / 4 {
            self.state = State::Reading;
        }
    }

    pub(crate) fn hold(&self) -> Option<HoldId> {
        match self.state {
            State::Held(hold) => Some(hold),
            State::Reading | State::Overdue => None,
        }
    }

    pub(crate) fn end_hold(&mut self, hold: HoldId) {
        if self.hold() == Some(hold) {
            self.state = State::Overdue;
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

    /// What is done to a fill with a limit of 100, and the hold that results.
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
    fn a_hold_that_was_ended_is_not_repeated_before_the_room_is_emptier() {
        check(&[
            (Add(51), Some(1)),
            (End(1), None),
            (Add(40), None),
            (Remove(60), None),
            (Add(40), None),
            (Remove(46), None),
            (Add(26), Some(2)),
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
