//! How much a service has had to do lately: rates over the last minute.
//!
//! A task of the service takes a sample every five seconds, so that a single question has
//! something to compare with. Nothing is counted for it that the status does not have.

use super::status::Status;
use super::{ServiceHandle, Shared};
use crate::sync::lock;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

/// The time between two samples.
const INTERVAL: Duration = Duration::from_secs(5);
/// How far the rates look back.
const WINDOW: Duration = Duration::from_secs(60);

/// What a service has done per second, on average over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Rates {
    /// Over how many seconds: a minute, or less if the service is younger.
    pub seconds: f64,
    /// Connections or datagrams that came, the refused ones included.
    pub accepted: f64,
    /// Those that were not let in.
    pub refused: f64,
    /// Those that failed.
    pub failed: f64,
    /// Bytes read from peers.
    pub bytes_in: f64,
    /// Bytes that the kernel has taken for peers.
    pub bytes_out: f64,
}

/// The sums of a service at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// The samples of the last minute, oldest first.
#[derive(Debug)]
pub(super) struct Samples(VecDeque<(Instant, Sums)>);

impl Sums {
    pub(super) fn of(status: &Status) -> Self {
        Self {
            accepted: status.accepted,
            refused: status.refused.total(),
            failed: status.failed.total(),
            bytes_in: status.bytes_in,
            bytes_out: status.bytes_out,
        }
    }
}

impl Rates {
    /// From one status of a service to a later one, after so much time.
    ///
    /// `None` if counters went back: then they are of two services that have the same name,
    /// one after the other. Which sums are not looked at may be made of several counters, which
    /// are not read at the same time.
    pub fn between(before: &Status, after: &Status, time: Duration) -> Option<Self> {
        let went_back = after.handled < before.handled
            || after.bytes_in < before.bytes_in
            || after.bytes_out < before.bytes_out;
        (!went_back && !time.is_zero()).then(|| Self::of(Sums::of(before), Sums::of(after), time))
    }

    fn of(before: Sums, after: Sums, time: Duration) -> Self {
        let seconds = time.as_secs_f64();
        if seconds == 0.0 {
            return Self::default();
        }
        #[allow(
            clippy::cast_precision_loss,
            reason = "a rate is shown with a few digits"
        )]
        let per_second = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        Self {
            seconds,
            accepted: per_second(before.accepted, after.accepted),
            refused: per_second(before.refused, after.refused),
            failed: per_second(before.failed, after.failed),
            bytes_in: per_second(before.bytes_in, after.bytes_in),
            bytes_out: per_second(before.bytes_out, after.bytes_out),
        }
    }
}

impl Samples {
    /// Begins with a service that has done nothing.
    pub(super) fn new(now: Instant) -> Self {
        Self(VecDeque::from([(now, Sums::default())]))
    }

    /// Adds a sample, and forgets those that are too old.
    pub(super) fn add(&mut self, now: Instant, sums: Sums) {
        self.0.push_back((now, sums));
        // The newest one that is as old as the window stays: the window begins there.
        while let Some((second, _)) = self.0.get(1)
            && now.saturating_duration_since(*second) >= WINDOW
        {
            self.0.pop_front();
        }
    }

    /// The rates from the oldest sample until `now`.
    pub(super) fn rates(&self, now: Instant, sums: Sums) -> Rates {
        let Some((since, before)) = self.0.front() else {
            return Rates::default();
        };
        Rates::of(*before, sums, now.saturating_duration_since(*since))
    }
}

impl Shared {
    /// Takes a sample of the sums from time to time.
    pub(super) async fn sample(self: &Arc<Self>) -> Infallible {
        let service = ServiceHandle {
            shared: Arc::clone(self),
        };
        let mut interval = tokio::time::interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let sums = Sums::of(&service.status());
            lock(&self.samples).add(Instant::now(), sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(accepted: u64) -> Sums {
        Sums {
            accepted,
            ..Sums::default()
        }
    }

    #[test]
    fn rates_are_those_of_the_last_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut samples = Samples::new(start);
        assert_eq!(samples.rates(start, accepted(0)), Rates::default());
        let young = samples.rates(at(2), accepted(10));
        assert_eq!((young.seconds, young.accepted), (2.0, 5.0));
        // 100 in the first five seconds, and then one per second.
        for sample in 1..=30 {
            samples.add(at(5 * sample), accepted(95 + 5 * sample));
        }
        let later = samples.rates(at(150), accepted(245));
        assert_eq!((later.seconds, later.accepted), (60.0, 1.0));
        assert!(samples.0.len() <= 14);
    }
}
