//! The lines of the log between the threads that log and the one that writes.
//!
//! Nobody waits for the reader of standard error: a line that finds no room is
//! lost, counted, and said when there is room again. What waits is bounded in
//! bytes. Each service has a budget for its own lines and one for its guests'
//! output, so that neither a guest nor the peers of one service cost the others,
//! or the host, a line.
//!
//! The thread ends with the process. It may be in a write that never returns.

mod lines;

use crate::sync::lock;
use lines::{Lines, WRITE};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::io;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use lines::Owner;

/// How long the end of the process waits for a reader that takes nothing, and
/// how long for all lines.
const STALLED: Duration = Duration::from_secs(1);
const AT_THE_END: Duration = Duration::from_secs(5);

/// The target of the lines that say what was lost.
pub(crate) const TARGET: &str = "sockserve::log_queue";

/// The process's queue, if it has one.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// How many lines of a service and of its guests have been lost so far.
pub(crate) fn dropped(service: &str) -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped(service))
}

/// Puts a line that is no event of the log behind those that are. Returns the
/// line if the process has no queue.
pub(crate) fn say(line: String) -> Option<String> {
    let Some(queue) = QUEUE.get() else {
        return Some(line);
    };
    queue.push(Owner::Host, line);
    None
}

/// Starts the thread that writes to standard error.
pub(crate) fn start() -> io::Result<(Arc<Queue>, Flush)> {
    let queue = Arc::new(Queue::default());
    let writing = Arc::clone(&queue);
    std::thread::Builder::new()
        .name("sockserve-log".to_owned())
        .spawn(move || writing.write_all())?;
    // A second one is for its caller only; the first keeps its place.
    let _ = QUEUE.set(Arc::clone(&queue));
    Ok((Arc::clone(&queue), Flush(queue)))
}

/// Waits, when it is dropped, until the lines that wait are written: for five
/// seconds at most, and no longer than one for a reader that takes nothing.
pub(crate) struct Flush(Arc<Queue>);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush();
    }
}

#[derive(Default)]
pub(crate) struct Queue {
    lines: Mutex<Lines>,
    /// A line has come.
    filled: Condvar,
    /// Lines have been written, or lost.
    written: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        lock(&self.lines)
    }

    /// Takes a line, with its newline, or counts it as lost. Never waits.
    pub(crate) fn push(&self, owner: Owner<'_>, text: String) {
        if self.lock().push(owner, text) {
            self.filled.notify_one();
        }
    }

    fn dropped(&self, service: &str) -> u64 {
        self.lock().dropped(service)
    }

    /// Writes, for as long as the process lives.
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
            let written = write_to_stderr(&bytes).is_ok();
            let said = self.lock().settle(&charged, written);
            for lost in said {
                lost.say();
            }
            self.lock().busy = false;
            self.written.notify_all();
        }
    }

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

/// Without the lock of `std::io::stderr`: whoever else writes there must not
/// wait for a reader that stalls.
fn write_to_stderr(mut bytes: &[u8]) -> rustix::io::Result<()> {
    let stderr = io::stderr();
    let stderr = stderr.as_fd();
    while !bytes.is_empty() {
        match rustix::io::write(stderr, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Another process that has it made it non-blocking.
            Err(Errno::AGAIN) => {
                let mut waiting = [PollFd::from_borrowed_fd(stderr, PollFlags::OUT)];
                match poll(&mut waiting, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
