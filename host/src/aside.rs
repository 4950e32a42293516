//! Slow work on a thread of its own, so that it does not block an event loop.

use std::io;
use tokio::sync::oneshot;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error() {
        assert_eq!(aside("well", || 5).await.unwrap(), 5);
        let error = aside("ill", || panic!("on purpose")).await.unwrap_err();
        assert!(error.to_string().contains("ill has panicked"), "{error}");
    }
}
