//! Calls that must not wait: a turn of `evented`, and the calls of `hand-over`.

use crate::guest::clock::DeadlineExceeded;
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
        let mut call = pin!(call);
        // Most calls end at their first poll and need no timer.
        let result = match futures_util::poll!(&mut call) {
            Poll::Ready(result) => result,
            Poll::Pending => tokio::time::timeout(self.0, call)
                .await
                .map_err(|_| DeadlineExceeded(self.0))?,
        };
        result.map_err(|error| Failure::from_call(&error))
    }
}
