//! Checks that the system gives a runtime its threads, before the runtime is made.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long the system may still count threads that have ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// Checks that the system gives `count` threads at once.
///
/// Tokio's builder panics if it does not, and waits forever for the threads that it got
/// while it unwinds (tokio-rs/tokio#6167). The threads that are made here are gone when
/// this returns, unless the system still counts them after [`PATIENCE`].
pub(super) fn check(count: usize) -> io::Result<()> {
    let before = running();
    let mut threads: Vec<(mpsc::Sender<()>, JoinHandle<()>)> = Vec::with_capacity(count);
    let mut result = Ok(());
    for _ in 0..count {
        // The thread lives until its sender is dropped.
        let (end, ended) = mpsc::channel::<()>();
        let spawned = thread::Builder::new().spawn(move || {
            // An error, when the sender is dropped.
            let _ = ended.recv();
        });
        match spawned {
            Ok(thread) => threads.push((end, thread)),
            Err(error) => {
                result = Err(error);
                break;
            }
        }
    }
    for (end, thread) in threads {
        drop(end);
        let _ = thread.join();
    }
    // The system counts a thread for a moment after it was joined.
    let begun = std::time::Instant::now();
    while running() > before && begun.elapsed() < PATIENCE {
        thread::yield_now();
    }
    result
}

/// The number of threads of this process. 0 if the system does not say.
fn running() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_threads_are_to_be_had() {
        check(3).unwrap();
    }
}
