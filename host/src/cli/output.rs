//! Standard output and standard error, as the commands use them.

use crate::{log_queue, text};
use std::io::{self, Write};

/// Standard output. If its reader has left (`… | head -1`), the command does not
/// fail: the rest is dropped.
pub(super) struct Stdout {
    stdout: io::StdoutLock<'static>,
    reader_left: bool,
}

pub(super) fn stdout() -> Stdout {
    Stdout {
        stdout: io::stdout().lock(),
        reader_left: false,
    }
}

impl Stdout {
    /// Calls `write`, or returns `otherwise` if the reader has left.
    fn unless_left<R>(
        &mut self,
        otherwise: R,
        write: impl FnOnce(&mut io::StdoutLock<'static>) -> io::Result<R>,
    ) -> io::Result<R> {
        if self.reader_left {
            return Ok(otherwise);
        }
        match write(&mut self.stdout) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.reader_left = true;
                Ok(otherwise)
            }
            result => result,
        }
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_left(bytes.len(), |stdout| stdout.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_left((), Write::flush)
    }
}

/// Prints on standard error why something was refused or has failed. It is one
/// line, behind the waiting lines of the log.
pub(super) fn complain(text: &str) {
    refuse(&format!("sockserve: {text}"));
}

/// Prints a line on standard error that says itself what it is about: a place in a file.
pub(super) fn refuse(line: &str) {
    let line = format!("{}\n", text::escape(line));
    if let Some(line) = log_queue::append(line) {
        // If standard error cannot be written, there is no other place to report
        // it.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// Whether standard error is a terminal that can move its cursor.
pub(super) fn stderr_is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr()) && !variable_is("TERM", |value| value == "dumb")
}

/// Whether the log has colours: on a terminal that can show them, unless the
/// environment says otherwise (<https://no-color.org>,
/// <https://bixense.com/clicolors>).
pub(super) fn stderr_has_colours() -> bool {
    stderr_is_terminal()
        && !variable_is("NO_COLOR", |value| !value.is_empty())
        && !variable_is("CLICOLOR", |value| value == "0")
}

/// Whether an environment variable is set and `matches` its value.
fn variable_is(variable: &str, matches: impl FnOnce(&std::ffi::OsStr) -> bool) -> bool {
    std::env::var_os(variable).is_some_and(|value| matches(&value))
}
