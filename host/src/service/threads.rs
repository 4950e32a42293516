//! Threads that a runtime is going to need.

use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long ended threads may take to be gone for the system.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says whether the system gives `count` threads at once.
///
/// Tokio's builder panics where it does not (tokio-rs/tokio#6167), and while it
/// unwinds it waits for ever for those threads that it got. The threads made here are
/// gone when this returns.
pub(super) fn check(count: usize) -> io::Result<()> {
    let before = running();
    let mut threads: Vec<(mpsc::Sender<()>, JoinHandle<()>)> = Vec::with_capacity(count);
    let mut result = Ok(());
    for _ in 0..count {
        // The thread lives until its sender is dropped.
        let (end, ended) = mpsc::channel::<()>();
        let spawned = thread::Builder::new().spawn(move || {
            // It is an error, when the sender is dropped.
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
    // A thread that was joined counts for a moment longer.
    let begun = std::time::Instant::now();
    while running() > before && begun.elapsed() < PATIENCE {
        thread::yield_now();
    }
    result
}

/// The threads of this process; 0 where the system does not say.
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
