//! What the log says of refusals, however many there are: the first of an episode, and
//! then a sum per minute.
//!
//! An episode of a cause begins with the first event, and ends after a minute without
//! one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often a sum is logged.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);

/// The episodes that are under way, by their cause.
#[derive(Debug)]
pub(super) struct Episodes<C>(BTreeMap<C, Episode>);

#[derive(Debug)]
struct Episode {
    /// Events since the last line.
    unsaid: u64,
    /// When the next line is due.
    due: Instant,
}

impl<C> Default for Episodes<C> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<C: Copy + Ord> Episodes<C> {
    /// Counts an event. Returns whether it is the first of an episode.
    pub(super) fn count(&mut self, cause: C, now: Instant) -> bool {
        if let Some(episode) = self.0.get_mut(&cause) {
            episode.unsaid += 1;
            return false;
        }
        let due = now + INTERVAL;
        self.0.insert(cause, Episode { unsaid: 0, due });
        true
    }

    /// When a sum is due, or an episode ends. `None` if no episode is under way.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.values().map(|episode| episode.due).min()
    }

    /// Returns the sums that are due. Ends the episodes without an event since the last
    /// one.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(C, u64)> {
        let mut sums = Vec::new();
        self.0.retain(|cause, episode| {
            if episode.due > now {
                return true;
            }
            let unsaid = std::mem::take(&mut episode.unsaid);
            episode.due = now + INTERVAL;
            if unsaid > 0 {
                sums.push((*cause, unsaid));
            }
            unsaid > 0
        });
        sums
    }

    /// Ends all episodes. Returns what was not said.
    pub(super) fn end(&mut self) -> Vec<(C, u64)> {
        let all = std::mem::take(&mut self.0).into_iter();
        let sums = all.map(|(cause, episode)| (cause, episode.unsaid));
        sums.filter(|(_, unsaid)| *unsaid > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_has_a_first_line_and_sums() {
        let (mut episodes, begun) = (Episodes::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(episodes.next_due(), None);
        assert!(episodes.count('a', at(0)));
        for second in 1..=10 {
            assert!(!episodes.count('a', at(second)));
        }
        assert!(episodes.count('b', at(20)));
        assert_eq!(episodes.next_due(), Some(at(60)));
        assert_eq!(episodes.due(at(59)), []);
        assert_eq!(episodes.due(at(60)), [('a', 10)]);
        // The other one has ended without another event.
        assert_eq!(episodes.due(at(80)), []);
        assert!(episodes.count('b', at(81)));
        assert!(!episodes.count('a', at(90)));
        assert_eq!(episodes.due(at(120)), [('a', 1)]);
        assert_eq!(episodes.due(at(180)), []);
        assert!(episodes.count('a', at(181)));
    }

    #[test]
    fn nothing_is_left_unsaid_at_the_end() {
        let (mut episodes, now) = (Episodes::default(), Instant::now());
        for cause in ['a', 'b', 'a', 'a'] {
            episodes.count(cause, now);
        }
        assert_eq!(episodes.end(), [('a', 2)]);
        assert_eq!(episodes.next_due(), None);
    }
}
