//! Random changes. The same seed makes the same changes.

use sockserve_handler::p2::evented::{
    Change, ConnectionId, Interest, fail_change, interest_change,
};

/// xorshift64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one<T: Copy>(&mut self, values: &[T]) -> Option<T> {
        let end = u64::try_from(values.len()).ok().filter(|&end| end > 0)?;
        let at = usize::try_from(self.below(end)).ok()?;
        values.get(at).copied()
    }

    /// Makes a change of one of these connections, or of the timer.
    pub(crate) fn change(&mut self, ids: &[ConnectionId]) -> Change {
        let id = self.one(ids).unwrap_or_default();
        match self.below(8) {
            0..=2 => {
                let some = [
                    Interest::empty(),
                    Interest::READABLE,
                    Interest::WRITABLE,
                    Interest::all(),
                ];
                interest_change(id, self.one(&some).unwrap_or(Interest::all()))
            }
            3..=4 => Change::Close(id),
            5 => {
                let length = usize::try_from(self.below(3000)).unwrap_or_default();
                fail_change(id, &"\r\n\u{1b}[31m\u{202e}x".repeat(length))
            }
            _ => {
                let some = [0, 1, self.next(), u64::MAX];
                Change::TickAfter(self.one(&some).unwrap_or_default())
            }
        }
    }
}
