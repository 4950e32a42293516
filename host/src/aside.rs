//! Work that takes a while, beside the event loop.

use std::io;
use tokio::sync::oneshot;

/// Does `work` on a thread of its own. Whoever stops waiting leaves it behind,
/// and it goes on to its end.
///
/// Tokio's `spawn_blocking` panics where the system has no thread; this says so.
pub(crate) async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Nobody may be waiting any more.
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
