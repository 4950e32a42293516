//! Slow work and slow drops on a thread of their own, so that they do not block an event
//! loop.

use std::io;
use tokio::sync::oneshot;

/// By how much a thread of [`aside_giving_way`] is nicer: where it competes for a core with
/// threads that serve, it gets about a tenth of what they get.
const NICER: i32 = 10;

/// Runs `work` on a new thread and waits for its result. If the caller stops
/// waiting, the thread still runs to its end.
///
/// Tokio's `spawn_blocking` panics if the system has no thread for it
/// (tokio-rs/tokio#2309). This function returns an error instead.
pub(crate) async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // The caller may have stopped waiting.
            let _ = done.send(work());
        })
        .map_err(|error| {
            let advice = "raise the limit on processes (ulimit -u)";
            io::Error::new(error.kind(), format!("no thread: {error}; {advice}"))
        })?;
    result
        .await
        .map_err(|_| io::Error::other(format!("the thread {name} has panicked")))
}

/// Does the same for work that no peer waits for: its thread, and the threads that this one
/// starts, leave the cores to others. On a busy core the connections of a service would
/// otherwise wait while a new version is compiled, for a tick of the kernel (4 ms) and longer.
pub(crate) async fn aside_giving_way<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let nicely = move || {
        // On Linux this is about the thread. Where a filter of system calls refuses it, the
        // work is done all the same.
        let _ = rustix::process::nice(NICER);
        work()
    };
    aside(name, nicely).await
}

/// Holds a value, and drops it on a thread of its own.
///
/// The drop of the last reference to an engine unmaps the engine's pool. That takes
/// milliseconds for each GiB that guests have touched, and the dropping thread may
/// have connections to serve.
pub(crate) struct DropAside<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> DropAside<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T: Send + 'static> Drop for DropAside<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        // If the system gives no thread, the value is dropped here.
        let _: io::Result<_> = std::thread::Builder::new()
            .name("sockserve-drop".to_owned())
            .spawn(move || drop(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error() {
        assert_eq!(aside("well", || 5).await.unwrap(), 5);
        let error = aside("ill", || panic!("on purpose")).await.unwrap_err();
        assert!(error.to_string().contains("ill has panicked"), "{error}");
    }

    #[tokio::test]
    async fn a_thread_that_gives_way_is_nicer_and_so_are_those_that_it_starts() {
        let niceness = || rustix::process::nice(0).unwrap();
        let before = niceness();
        let nicer = (before + NICER).min(19);
        let work = move || (niceness(), std::thread::spawn(niceness).join().unwrap());
        assert_eq!(
            aside_giving_way("nice", work).await.unwrap(),
            (nicer, nicer)
        );
        // The caller is as it was, and so is a thread that does not give way.
        assert_eq!(niceness(), before);
        assert_eq!(aside("plain", niceness).await.unwrap(), before);
    }
}
