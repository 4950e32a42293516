//! Calls that must not wait: a turn of `evented`, and the calls of `hand-over`.

use crate::guest::clock::{self, DeadlineExceeded, TICK};
use crate::guest::failure::Failure;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use wasmtime::Result;

/// The most time that a call may take, computing and waiting.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(pub(crate) Duration);

impl Deadline {
    /// Waits for a call, for no longer than the deadline. If the call runs a
    /// store's event loop, the time-out must be outside of the loop, as it is here:
    /// a time-out inside of `run_concurrent` may not fire
    /// (bytecodealliance/wasmtime#11869 and #11870).
    pub(crate) async fn hold<R>(self, call: impl Future<Output = Result<R>>) -> Result<R, Failure> {
        self.hold_by(clock::now, call).await
    }

    /// The same by a clock of ticks. It is the guests' clock, which stands still while
    /// this process is stopped: that is not the guest's doing.
    async fn hold_by<R>(
        self,
        now: impl Fn() -> u64,
        call: impl Future<Output = Result<R>>,
    ) -> Result<R, Failure> {
        let begun = now();
        let limit = clock::ticks(self.0);
        let mut call = pin!(call);
        // Most calls end at their first poll and need no timer.
        let mut polled = futures_util::poll!(&mut call);
        loop {
            if let Poll::Ready(result) = polled {
                return result.map_err(|error| Failure::from_call(&error));
            }
            let used = now().saturating_sub(begun);
            if used >= limit {
                return Err(DeadlineExceeded(self.0).into());
            }
            let rest = u32::try_from(limit - used).unwrap_or(u32::MAX);
            polled = match tokio::time::timeout(TICK.saturating_mul(rest), &mut call).await {
                Ok(result) => Poll::Ready(result),
                Err(_) => Poll::Pending,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::{pending, ready};
    use tokio::time::Instant;

    const DEADLINE: Deadline = Deadline(Duration::from_millis(100));

    fn never() -> impl Future<Output = Result<()>> {
        pending()
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_waits_ends_at_the_deadline() {
        let begun = Instant::now();
        let now = || u64::try_from(begun.elapsed().as_millis() / TICK.as_millis()).unwrap();
        let failure = DEADLINE.hold_by(now, never()).await.unwrap_err();
        assert!(matches!(failure, Failure::Deadline(_)), "{failure}");
        assert_eq!(begun.elapsed().as_millis(), 100);
        assert!(DEADLINE.hold_by(now, async { Ok(()) }).await.is_ok());
    }

    /// As when the process is stopped.
    #[tokio::test(start_paused = true)]
    async fn time_that_the_guests_clock_has_not_seen_does_not_count() {
        let begun = Instant::now();
        let asked = Cell::new(0);
        // The clock stands still for a minute.
        let now = || {
            asked.set(asked.get() + 1);
            if begun.elapsed() < Duration::from_secs(60) {
                0
            } else {
                10
            }
        };
        assert!(DEADLINE.hold_by(now, never()).await.is_err());
        assert_eq!(begun.elapsed(), Duration::from_secs(60));
        assert!(asked.get() > 100);
        assert!(DEADLINE.hold_by(|| 0, ready(Ok(()))).await.is_ok());
    }
}
