//! How many may come in per second: a token bucket, without a clock of its own.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// So many per second in the long run, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Tokens that a bucket gets per second.
    pub(super) per_second: NonZeroU32,
    /// Tokens that a full bucket has.
    pub(super) burst: NonZeroU32,
}

impl Rate {
    /// Makes a rate. Without a burst as many may come at once as come in a second.
    pub(super) fn new(per_second: NonZeroU32, burst: Option<NonZeroU32>) -> Self {
        Self {
            per_second,
            burst: burst.unwrap_or(per_second),
        }
    }

    /// How long a token takes.
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.get()
    }
}

/// A bucket of tokens. It is full at first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    /// When it is full again. `None` as long as no token was taken. The time until then
    /// says how many tokens are missing, so one instant is all that a bucket is.
    full_at: Option<Instant>,
}

impl Bucket {
    /// How long the next token takes. Zero if there is one.
    pub(super) fn wait(&self, rate: Rate, now: Instant) -> Duration {
        let Some(full_at) = self.full_at else {
            return Duration::ZERO;
        };
        let missing = full_at.saturating_duration_since(now);
        missing.saturating_sub(rate.interval().saturating_mul(rate.burst.get() - 1))
    }

    /// Takes a token. Called when there is one.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) {
        let from = self.full_at.map_or(now, |full_at| full_at.max(now));
        self.full_at = Some(from + rate.interval());
    }

    /// When it is full again. `None` if it is.
    pub(super) fn full_at(&self, now: Instant) -> Option<Instant> {
        self.full_at.filter(|full_at| *full_at > now)
    }
}

/// The pace of a whole service: a rate, and a pause when it is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// How many may come in.
    pub(super) rate: Rate,
    /// For how long none comes in when the bucket is empty. Zero is until there is the
    /// next token.
    pub(super) pause: Duration,
}

impl Pace {
    /// Makes a pace.
    pub(super) fn new(rate: Rate, pause: Duration) -> Self {
        Self { rate, pause }
    }
}

/// Holds a service to its pace.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pacer {
    bucket: Bucket,
    /// The end of the pause. `None` before the first one.
    resume_at: Option<Instant>,
}

impl Pacer {
    /// How long the next one has to wait. Zero if it need not. Begins a pause if there is
    /// no token.
    pub(super) fn wait(&mut self, pace: Pace, now: Instant) -> Duration {
        let left = self.resume_at.map(|at| at.saturating_duration_since(now));
        if let Some(left) = left
            && !left.is_zero()
        {
            return left;
        }
        let next = self.bucket.wait(pace.rate, now);
        if next.is_zero() {
            return next;
        }
        let pause = next.max(pace.pause);
        self.resume_at = now.checked_add(pause);
        pause
    }

    /// Counts one that has come in.
    pub(super) fn take(&mut self, pace: Pace, now: Instant) {
        self.bucket.take(pace.rate, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        let count = |count| NonZeroU32::new(count).unwrap();
        Rate::new(count(per_second), Some(count(burst)))
    }

    /// Takes as many tokens as there are, at a time in milliseconds.
    fn drain(bucket: &mut Bucket, rate: Rate, begun: Instant, at: u64) -> u32 {
        let now = begun + Duration::from_millis(at);
        let mut taken = 0;
        while bucket.wait(rate, now).is_zero() {
            bucket.take(rate, now);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_bucket_has_its_burst_and_fills_at_its_rate() {
        let check = |rate: Rate, steps: &[(u64, u32)]| {
            let (mut bucket, begun) = (Bucket::default(), Instant::now());
            for (at, expected) in steps {
                let taken = drain(&mut bucket, rate, begun, *at);
                assert_eq!(taken, *expected, "{rate:?} at {at} ms");
            }
        };
        check(
            rate(1, 1),
            &[(0, 1), (999, 0), (1000, 1), (1001, 0), (9000, 1)],
        );
        check(
            rate(10, 3),
            &[(0, 3), (99, 0), (100, 1), (350, 2), (5000, 3)],
        );
        check(rate(1000, 1), &[(0, 1), (1, 1), (100, 1)]);
        // Never more than the burst, however long nothing comes.
        check(rate(5, 5), &[(0, 5), (3_600_000, 5)]);
    }

    #[test]
    fn a_bucket_says_when_it_has_a_token_and_when_it_is_full() {
        let rate = rate(2, 2);
        let (mut bucket, now) = (Bucket::default(), Instant::now());
        assert_eq!(bucket.full_at(now), None);
        drain(&mut bucket, rate, now, 0);
        assert_eq!(bucket.wait(rate, now), Duration::from_millis(500));
        let full = now + Duration::from_secs(1);
        assert_eq!(bucket.full_at(now), Some(full));
        assert_eq!(bucket.full_at(full), None);
    }

    #[test]
    fn a_pause_is_over_with_a_bucket_that_has_filled() {
        let pace = Pace::new(rate(2, 4), Duration::from_secs(10));
        let (mut pacer, now) = (Pacer::default(), Instant::now());
        let mut at = |ms| {
            let now = now + Duration::from_millis(ms);
            let mut taken = 0;
            loop {
                let wait = pacer.wait(pace, now);
                if !wait.is_zero() {
                    return (taken, wait.as_millis());
                }
                pacer.take(pace, now);
                taken += 1;
            }
        };
        assert_eq!(at(0), (4, 10_000));
        // There are tokens, but the pause is not over.
        assert_eq!(at(9_000), (0, 1_000));
        assert_eq!(at(10_000), (4, 10_000));
    }

    #[test]
    fn a_pause_without_a_time_lasts_until_the_next_token() {
        let pace = Pace::new(rate(4, 1), Duration::ZERO);
        let (mut pacer, now) = (Pacer::default(), Instant::now());
        pacer.take(pace, now);
        assert_eq!(pacer.wait(pace, now), Duration::from_millis(250));
        let next = now + Duration::from_millis(250);
        assert_eq!(pacer.wait(pace, next), Duration::ZERO);
    }

    #[test]
    fn a_burst_is_a_second_by_default() {
        let seven = NonZeroU32::new(7).unwrap();
        assert_eq!(Rate::new(seven, None).burst, seven);
    }
}
