//! The queue between the threads that log and the thread that writes to standard
//! error, or to a file (`file`).
//!
//! A thread that logs never waits for the reader of the log. A line that
//! finds no room is lost and counted; the log says how many were lost when there is
//! room again. The waiting lines are limited in bytes. Each service has one budget
//! for the lines about it and one for the output of its guests. So a guest, or the
//! peers of one service, cannot push out the lines of another service or of the
//! host.
//!
//! The writing thread is never joined: it may be in a write that does not return.
//! It ends with the process.

mod file;
mod lines;

use crate::sync::lock;
use lines::{Lines, WRITE};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use file::{file_path, give_file_to, open_file_again, use_file, write};
pub(crate) use lines::Owner;

/// How long the process waits at its end: for a reader that takes nothing, and for
/// all lines together.
const STALLED: Duration = Duration::from_secs(1);
const AT_THE_END: Duration = Duration::from_secs(5);

/// The target of the lines that report lost lines.
pub(crate) const TARGET: &str = "sockserve::log_queue";

/// The queue of the process, if it has one.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Returns how many lines about a service and from its guests have been lost so
/// far.
pub(crate) fn lines_dropped(service: &str) -> u64 {
    QUEUE.get().map_or(0, |queue| queue.lines_dropped(service))
}

/// Appends a line that is not an event of the log, behind the waiting ones. Returns
/// the line if the process has no queue.
pub(crate) fn append(line: String) -> Option<String> {
    let Some(queue) = QUEUE.get() else {
        return Some(line);
    };
    queue.push(Owner::Host, line);
    None
}

/// Starts the thread that writes the lines, with its queue.
pub(crate) fn start() -> io::Result<(Arc<Queue>, Flush)> {
    let queue = Arc::new(Queue::default());
    let writing = Arc::clone(&queue);
    std::thread::Builder::new()
        .name("sockserve-log".to_owned())
        .spawn(move || writing.write_all())?;
    // The first queue of the process stays. A second one is only for its caller.
    let _ = QUEUE.set(Arc::clone(&queue));
    Ok((Arc::clone(&queue), Flush(queue)))
}

/// On drop, waits until the waiting lines are written: five seconds at most, and
/// one second at most for a reader that takes nothing.
pub(crate) struct Flush(Arc<Queue>);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// The waiting lines, and the signals between the threads.
#[derive(Default)]
pub(crate) struct Queue {
    lines: Mutex<Lines>,
    /// Notified when a line was added.
    filled: Condvar,
    /// Notified when lines were written or lost.
    written: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        lock(&self.lines)
    }

    /// Adds a line, which ends with a newline, or counts it as lost. Never waits.
    pub(crate) fn push(&self, owner: Owner<'_>, text: String) {
        if self.lock().push(owner, text) {
            self.filled.notify_one();
        }
    }

    fn lines_dropped(&self, service: &str) -> u64 {
        self.lock().lines_dropped(service)
    }

    /// Writes lines until the process ends.
    fn write_all(&self) {
        let mut bytes = Vec::with_capacity(WRITE);
        loop {
            let mut lines = self.lock();
            while lines.is_empty() {
                let waiting = self.filled.wait(lines);
                lines = waiting.unwrap_or_else(PoisonError::into_inner);
            }
            bytes.clear();
            let charged = lines.take(&mut bytes);
            drop(lines);
            let written = write(&bytes).is_ok();
            let said = self.lock().settle(&charged, written);
            for lost in said {
                lost.report();
            }
            self.lock().busy = false;
            self.written.notify_all();
        }
    }

    /// Waits until all lines are written, or until it has waited long enough.
    fn flush(&self) {
        let began = Instant::now();
        let mut lines = self.lock();
        let mut progress = (lines.writes, began);
        while !lines.is_empty() || lines.busy {
            if lines.writes != progress.0 {
                progress = (lines.writes, Instant::now());
            }
            let left = STALLED
                .saturating_sub(progress.1.elapsed())
                .min(AT_THE_END.saturating_sub(began.elapsed()));
            if left.is_zero() {
                return;
            }
            let waiting = self.written.wait_timeout(lines, left);
            lines = waiting.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
