//! A line on the terminal while something takes its time.

use super::output;
use std::io::{self, Write as _};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long nothing is said, and after which time each the line is written again.
const STEP: Duration = Duration::from_secs(1);

/// While it lives, a line on standard error says what is waited for and for how long. It
/// is there on a terminal only, and gone at the end. The compiler does not tell how far it
/// is, so the line does not either.
pub(super) struct Progress(Option<(Sender<()>, JoinHandle<()>)>);

impl Progress {
    /// `what` is on one line, without control characters.
    pub(super) fn show(what: String) -> Self {
        if !output::stderr_is_terminal() {
            return Self(None);
        }
        let (end, ended) = channel();
        let began = Instant::now();
        let thread = std::thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || {
                let mut shown = false;
                while ended.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
                    // The cursor stays at the begin of the line: a line of the log that
                    // comes meanwhile is written over this one.
                    write(&format!(
                        "\r{what}: {} s\x1b[K\r",
                        began.elapsed().as_secs()
                    ));
                    shown = true;
                }
                if shown {
                    write("\r\x1b[K");
                }
            });
        // Without a thread there is no line.
        Self(thread.ok().map(|thread| (end, thread)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}

fn write(text: &str) {
    // What cannot be written is no loss.
    let _ = io::stderr().write_all(text.as_bytes());
}
