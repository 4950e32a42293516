//! Panics of the host. A panic in a call of a guest costs that guest's instance and
//! nothing more.
//!
//! A caught panic becomes a failure, which is one line in the log. For a caught
//! panic the hook only keeps the message and the place. It logs every other panic
//! itself, on one line and without a backtrace.

use crate::text;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! {
    /// How many callers up the stack catch panics.
    static CATCHERS: Cell<u32> = const { Cell::new(0) };
    /// What the hook has noted of the last panic that is caught.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The value that a panic throws.
pub(crate) type Thrown = Box<dyn Any + Send>;

/// Installs a panic hook that logs each panic on one line. Only for a process that
/// is ours alone: there is one hook per process.
pub(crate) fn install_hook() {
    std::panic::set_hook(Box::new(|info| {
        let said = describe(info);
        if CATCHERS.get() > 0 {
            LAST.set(Some(said));
        } else {
            tracing::error!("the host panicked: {said}");
        }
    }));
}

/// Calls `work` and returns its result, or the value that it throws.
///
/// After a panic, the values that `work` was using may be dropped but must not be
/// used again.
pub(crate) fn catch<R>(work: impl FnOnce() -> R) -> Result<R, Thrown> {
    CATCHERS.set(CATCHERS.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHERS.set(CATCHERS.get() - 1);
    result
}

/// Polls `future`. If it panics, the result is the value that it throws.
pub(crate) fn poll<F: Future>(
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Thrown>> {
    match catch(|| future.poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(thrown) => Poll::Ready(Err(thrown)),
    }
}

/// Takes the hook's note about the panic that this thread has just caught. `None`
/// if the hook is not installed.
pub(crate) fn take_last() -> Option<String> {
    LAST.take()
}

/// Returns the message of a panic.
pub(crate) fn message(thrown: &(dyn Any + Send)) -> &str {
    if let Some(text) = thrown.downcast_ref::<&str>() {
        text
    } else if let Some(text) = thrown.downcast_ref::<String>() {
        text
    } else {
        "without a message"
    }
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let message = message(info.payload());
    match info.location().map(place) {
        Some(place) => format!("{message}, at {place}"),
        None => message.to_owned(),
    }
}

/// Returns file and line, without the build directories: they are on another
/// machine and tell the reader nothing.
fn place(location: &Location<'_>) -> String {
    let file = text::without_build_paths(location.file());
    format!("{file}:{}", location.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_thrown_is_returned() {
        let thrown = catch(|| panic!("number {}", 5)).unwrap_err();
        assert_eq!(message(&*thrown), "number 5");
        assert_eq!(catch(|| 5).ok(), Some(5));
    }

    #[test]
    fn a_place_is_named_without_the_machines_directories() {
        let here = place(Location::caller());
        assert!(here.starts_with("host/src/panics.rs:"), "{here}");
    }
}
