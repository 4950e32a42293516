//! Panics of the host: what a guest or a fault of our own can cause must cost its
//! instance and no more.
//!
//! Where a panic is caught it becomes a failure with one line in the log. The hook
//! keeps quiet there and only notes what was said and where; any other panic it
//! logs itself, as one line and without a backtrace.

use crate::text;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! {
    /// How many callers up the stack catch panics.
    static CATCHERS: Cell<u32> = const { Cell::new(0) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// What was thrown.
pub(crate) type Thrown = Box<dyn Any + Send>;

/// Has panics logged on one line each. For a process that is ours alone: a hook is
/// the whole process's.
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

/// Calls `work`, and returns what it throws.
///
/// What `work` was in the middle of must not be used again, but for being dropped.
pub(crate) fn catch<R>(work: impl FnOnce() -> R) -> Result<R, Thrown> {
    CATCHERS.set(CATCHERS.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHERS.set(CATCHERS.get() - 1);
    result
}

/// Polls `future`, and is ready with what it throws.
pub(crate) fn poll<F: Future>(
    future: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<Result<F::Output, Thrown>> {
    match catch(|| future.poll(cx)) {
        Ok(poll) => poll.map(Ok),
        Err(thrown) => Poll::Ready(Err(thrown)),
    }
}

/// What the hook has noted of the panic that this thread has just caught. Nothing
/// without the hook.
pub(crate) fn last() -> Option<String> {
    LAST.take()
}

/// The text of a panic.
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

/// File and line, without the directories of the machine that built the binary:
/// those say nothing to a reader of the log.
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
