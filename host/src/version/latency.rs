//! How long things take: a histogram with fixed limits, which is counted without a lock.

use serde::{Deserialize, Serialize};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The upper limits of the buckets, in microseconds: three per power of ten, from 10 µs to
/// 5 minutes. What takes longer is in one more bucket.
const LIMITS: [u64; 16] = [
    10,
    30,
    100,
    300,
    1_000,
    3_000,
    10_000,
    30_000,
    100_000,
    300_000,
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
];

/// Counts times.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    buckets: [AtomicU64; LIMITS.len() + 1],
    /// In nanoseconds.
    sum: AtomicU64,
}

/// Times that were counted, by how long they were.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct LatencyCounts {
    /// How many times there are.
    pub count: u64,
    /// All of them together.
    pub seconds: f64,
    /// From the shortest to the longest. A time is in one bucket only.
    pub buckets: Vec<LatencyBucket>,
}

/// Times of about the same length.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct LatencyBucket {
    /// The longest time that belongs here. `None` for the last bucket, which has all that
    /// are longer.
    pub at_most_seconds: Option<f64>,
    /// How many times are here.
    pub count: u64,
}

impl Latency {
    /// Counts a time.
    fn count(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = LIMITS.partition_point(|limit| limit.saturating_mul(1000) < nanos);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Waits for a call, and counts how long it took. One that is given up is not counted.
    pub(crate) async fn measure<R>(&self, call: Pin<&mut impl Future<Output = R>>) -> R {
        let begun = Instant::now();
        let result = call.await;
        self.count(begun.elapsed());
        result
    }

    /// What was counted until now.
    pub(crate) fn counts(&self) -> LatencyCounts {
        let limits = LIMITS.iter().map(|limit| Some(*limit as f64 / 1e6));
        let buckets: Vec<_> = limits
            .chain([None])
            .zip(&self.buckets)
            .map(|(at_most_seconds, count)| LatencyBucket {
                at_most_seconds,
                count: count.load(Ordering::Relaxed),
            })
            .collect();
        LatencyCounts {
            count: buckets.iter().map(|bucket| bucket.count).sum(),
            seconds: self.sum.load(Ordering::Relaxed) as f64 / 1e9,
            buckets,
        }
    }
}

impl LatencyCounts {
    /// The shortest limit that at least `percent` percent of the times keep. `None` if
    /// there are none, or if that is the bucket without a limit.
    pub fn at_most(&self, percent: u8) -> Option<f64> {
        let wanted = self.count.saturating_mul(percent.into()).div_ceil(100);
        if wanted == 0 {
            return None;
        }
        let mut below = 0;
        let bucket = self.buckets.iter().find(|bucket| {
            below += bucket.count;
            below >= wanted
        });
        bucket?.at_most_seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_it_does_not_exceed() {
        let latency = Latency::default();
        assert_eq!(latency.counts().at_most(50), None);
        let micros = Duration::from_micros;
        for time in [
            Duration::ZERO,
            micros(10),
            micros(11),
            micros(30),
            micros(31),
        ] {
            latency.count(time);
        }
        latency.count(Duration::from_secs(301));
        let counts = latency.counts();
        let found: Vec<_> = counts.buckets.iter().map(|bucket| bucket.count).collect();
        assert_eq!(found.get(..4), Some(&[2, 2, 1, 0][..]));
        assert_eq!(found.last(), Some(&1));
        assert_eq!((counts.count, counts.buckets.len()), (6, 17));
        assert!((counts.seconds - 301.000_082).abs() < 1e-9);
        assert_eq!(counts.at_most(50), Some(0.000_03));
        assert_eq!(counts.at_most(1), Some(0.000_01));
        assert_eq!(counts.at_most(83), Some(0.0001));
        assert_eq!(counts.at_most(99), None);
    }
}
