//! Waiting for one of several things, and for no longer than a time.

use wasi::clocks::monotonic_clock::subscribe_duration;
use wasi::io::poll::{Pollable, poll};

/// The end of a time. Without a time it never comes.
pub(crate) struct Deadline(Option<Pollable>);

impl Deadline {
    pub(crate) fn after(milliseconds: Option<u64>) -> Self {
        let timer = |time: u64| subscribe_duration(time.saturating_mul(1_000_000));
        Self(milliseconds.map(timer))
    }

    /// Waits. Returns the indices of what is ready, of which there is none if the time was
    /// over before.
    pub(crate) fn wait(&self, things: &[&Pollable]) -> Vec<usize> {
        let all: Vec<&Pollable> = things.iter().copied().chain(&self.0).collect();
        let ready = poll(&all).into_iter();
        let ready = ready.filter_map(|index| usize::try_from(index).ok());
        ready.filter(|&index| index < things.len()).collect()
    }

    /// Waits for one thing. Returns whether it is ready.
    pub(crate) fn wait_for(&self, thing: &Pollable) -> bool {
        !self.wait(&[thing]).is_empty()
    }
}
