//! The lines that a process prints, as they come.

use std::fmt::Debug;
use std::io::{BufRead as _, BufReader, ErrorKind, Read};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;

/// As much as a pipe holds.
const BLOCK: usize = 64 << 10;

/// One output of a process. Clones see the same lines.
#[derive(Clone)]
pub(crate) struct Log(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    /// At end of file: the process and all that share its output have ended.
    ended: bool,
}

impl Log {
    /// Collects the lines of `output` on a thread of its own. It reads as much as is
    /// there, and not line by line, because a server drops lines of guests if they
    /// are read too slowly.
    pub(crate) fn collect(output: impl Read + Send + 'static) -> Log {
        let log = Log(Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        }));
        let shared = Arc::clone(&log.0);
        std::thread::spawn(move || {
            let mut output = BufReader::with_capacity(BLOCK, output);
            let mut unfinished = Vec::new();
            loop {
                let block = match output.fill_buf() {
                    Ok([]) => break,
                    Ok(block) => block,
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => break,
                };
                let length = block.len();
                let mut lines = Vec::new();
                for piece in block.split_inclusive(|&byte| byte == b'\n') {
                    unfinished.extend_from_slice(piece);
                    if piece.ends_with(b"\n") {
                        lines.push(line(&unfinished));
                        unfinished.clear();
                    }
                }
                output.consume(length);
                shared.update(|state| state.lines.append(&mut lines));
            }
            shared.update(|state| {
                if !unfinished.is_empty() {
                    state.lines.push(line(&unfinished));
                }
                state.ended = true;
            });
        });
        log
    }

    /// All lines so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .lines
            .clone()
    }

    /// All lines, of a process that has ended.
    pub(crate) fn lines_to_end(&self) -> Vec<String> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self
            .0
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        state.lines.clone()
    }

    /// Waits until `pick` finds something in the lines so far.
    #[track_caller]
    pub(crate) fn wait_until<T>(
        &self,
        what: impl Debug,
        pick: impl FnMut(&[String]) -> Option<T>,
    ) -> T {
        self.wait_until_within(PATIENCE, what, pick)
    }

    /// The same, for at most so long.
    #[track_caller]
    pub(crate) fn wait_until_within<T>(
        &self,
        patience: Duration,
        what: impl Debug,
        mut pick: impl FnMut(&[String]) -> Option<T>,
    ) -> T {
        self.wait(patience, what, |state| pick(&state.lines), true)
    }

    /// Waits for the end of file, for at most so long, and gives all lines.
    #[track_caller]
    pub(crate) fn wait_for_end(&self, patience: Duration) -> Vec<String> {
        let end = |state: &State| state.ended.then(|| state.lines.clone());
        self.wait(patience, "the end of the output", end, false)
    }

    #[track_caller]
    fn wait<T>(
        &self,
        patience: Duration,
        what: impl Debug,
        mut pick: impl FnMut(&State) -> Option<T>,
        only_until_end: bool,
    ) -> T {
        let deadline = Instant::now() + patience;
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = pick(&state) {
                return found;
            }
            assert!(
                !(only_until_end && state.ended),
                "the output ended without {what:?}"
            );
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited too long for {what:?}");
            (state, _) = self
                .0
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A line without its end.
fn line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_end_matches(['\r', '\n']).to_owned()
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

/// One line of the server's log, as `--log-format json` writes it.
#[derive(Clone, Debug)]
pub(crate) struct Event(Value);

impl Event {
    /// The line's event. A line that is none is whatever else a process says,
    /// for instance that it has panicked.
    pub(crate) fn parse(line: &str) -> Option<Event> {
        let value: Value = serde_json::from_str(line).ok()?;
        value.is_object().then_some(Event(value))
    }

    /// A field that is text, or nothing.
    pub(crate) fn str(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// A field that is a number.
    pub(crate) fn number(&self, field: &str) -> Option<u64> {
        self.0[field].as_u64()
    }

    /// The number of the connection that it is about.
    pub(crate) fn connection(&self) -> Option<u64> {
        self.number("connection")
    }

    pub(crate) fn message(&self) -> &str {
        self.str("message")
    }

    /// Whether a guest printed it.
    pub(crate) fn is_guest(&self) -> bool {
        self.str("target") == "guest"
    }

    /// Whether it says that a request for another version was refused.
    pub(crate) fn is_refusal(&self) -> bool {
        let message = self.message();
        message.starts_with("swap refused: ") || message.starts_with("rollback refused: ")
    }

    /// Whether it is worse than what happens in a normal run.
    pub(crate) fn is_alarm(&self) -> bool {
        matches!(self.str("level"), "WARN" | "ERROR")
    }
}
