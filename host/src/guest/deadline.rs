//! Calls that must not wait: a turn of `evented`, and the calls of `hand-over`.

use crate::guest::clock::{self, DeadlineExceeded, TICK};
use crate::guest::failure::Failure;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::watch;
use wasmtime::Result;

/// The most time that a call may take, computing and waiting.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(pub(crate) Duration);

/// A call that the guest must not take too long for, from its begin on.
///
/// Time goes by the guests' clock, which stands still while this process is stopped:
/// that is not the guest's doing.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    /// The tick at its begin.
    begun: u64,
    deadline: Deadline,
}

impl Deadline {
    /// Waits for a call, for no longer than the deadline. If the call runs a
    /// store's event loop, the time-out must be outside of the loop, as it is here:
    /// a time-out inside of `run_concurrent` may not fire
    /// (bytecodealliance/wasmtime#11869 and #11870).
    pub(crate) async fn hold<R>(
        self,
        call: Pin<&mut impl Future<Output = Result<R>>>,
    ) -> Result<R, Failure> {
        let running = self.begin();
        tokio::select! {
            biased;
            // Most calls end at their first poll and need no timer.
            result = call => result.map_err(|error| Failure::from_call(&error)),
            () = running.passed() => Err(DeadlineExceeded(self.0).into()),
        }
    }

    /// A call begins.
    pub(crate) fn begin(self) -> Running {
        Running {
            begun: clock::now(),
            deadline: self,
        }
    }
}

/// Calls inside a store's event loop that must not take too long, seen from outside of the
/// loop: a guest that waits in one by way of WASI 0.2 blocks the whole loop, and a timer
/// inside may not fire (wasmtime #11869, #11870).
pub(crate) struct Watched {
    deadline: Deadline,
    /// The call that is running.
    running: watch::Sender<Option<Running>>,
}

impl Watched {
    /// No call is running.
    pub(crate) fn new(deadline: Deadline) -> Self {
        Self {
            deadline,
            running: watch::Sender::new(None),
        }
    }

    /// Waits for a call, inside the event loop. [`overdue`](Self::overdue) looks at the
    /// time.
    pub(crate) async fn hold<R>(&self, call: Pin<&mut impl Future<Output = R>>) -> R {
        self.running.send_replace(Some(self.deadline.begin()));
        let result = call.await;
        self.running.send_replace(None);
        result
    }

    /// Waits until a call has taken too long. Polled outside of the event loop.
    pub(crate) async fn overdue(&self) -> DeadlineExceeded {
        let mut calls = self.running.subscribe();
        loop {
            let running = *calls.borrow_and_update();
            let over = async {
                match running {
                    Some(running) => running.passed().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = calls.changed() => {}
                () = over => return DeadlineExceeded(self.deadline.0),
            }
        }
    }
}

impl Running {
    /// Waits until the deadline of the call has passed.
    pub(crate) async fn passed(self) {
        self.passed_by(clock::now).await;
    }

    async fn passed_by(self, now: impl Fn() -> u64) {
        let limit = clock::ticks(self.deadline.0);
        loop {
            let used = now().saturating_sub(self.begun);
            if used >= limit {
                return;
            }
            let rest = u32::try_from(limit - used).unwrap_or(u32::MAX);
            tokio::time::sleep(TICK.saturating_mul(rest)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    const CALL: Running = Running {
        begun: 0,
        deadline: Deadline(Duration::from_millis(100)),
    };

    #[tokio::test(start_paused = true)]
    async fn a_deadline_passes_with_its_ticks() {
        let begun = Instant::now();
        let now = || u64::try_from(begun.elapsed().as_millis() / TICK.as_millis()).unwrap();
        CALL.passed_by(now).await;
        assert_eq!(begun.elapsed(), TICK * 10);
    }

    /// As when the process is stopped.
    #[tokio::test(start_paused = true)]
    async fn time_that_the_guests_clock_has_not_seen_does_not_count() {
        const STOPPED: Duration = Duration::from_secs(60);
        let begun = Instant::now();
        let now = || if begun.elapsed() < STOPPED { 0 } else { 10 };
        CALL.passed_by(now).await;
        assert_eq!(begun.elapsed(), STOPPED);
    }
}
