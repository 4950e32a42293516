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
/// line, behind the waiting lines of the log. If the log goes to a file, it is there too.
pub(super) fn complain(text: &str) {
    refuse(&format!("sockserve: {text}"));
}

/// Prints a line on standard error that says itself what it is about: a place in a file.
pub(super) fn refuse(line: &str) {
    let line = format!("{}\n", text::escape(line));
    let prefix = if journal_reads_stderr() { "<3>" } else { "" };
    let shown = format!("{prefix}{line}");
    let has_file = log_queue::file_path().is_some();
    let unqueued = log_queue::append(if has_file { line } else { shown.clone() });
    if has_file && let Some(line) = &unqueued {
        let _ = log_queue::write(line.as_bytes());
    }
    if has_file || unqueued.is_some() {
        // If standard error cannot be written, there is no other place to report
        // it.
        let _ = io::stderr().write_all(shown.as_bytes());
    }
}

/// Whether what is written to standard error goes to systemd's journal, which takes a
/// line's priority from a prefix (sd-daemon(3)). `JOURNAL_STREAM` has device and inode of
/// the journal's stream (systemd.exec(5)); a process that was given another standard error
/// inherits the variable too.
pub(super) fn journal_reads_stderr() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Some((device, inode)) = stream.split_once(':') else {
        return false;
    };
    let named = (device.parse().ok(), inode.parse().ok());
    let stderr = rustix::fs::fstat(io::stderr());
    stderr.is_ok_and(|found| named == (Some(found.st_dev), Some(found.st_ino)))
}

/// Whether standard error is a terminal that can move its cursor.
pub(super) fn stderr_is_terminal() -> bool {
    io::IsTerminal::is_terminal(&io::stderr()) && !variable_is("TERM", |value| value == "dumb")
}

/// Whether the log has colours: on a terminal that can show them, unless the
/// environment says otherwise (<https://no-color.org>,
/// <https://bixense.com/clicolors>).
pub(super) fn stderr_has_colours() -> bool {
    stderr_is_terminal() && colours_are_wanted()
}

/// Whether the environment has nothing against colours.
pub(super) fn colours_are_wanted() -> bool {
    !variable_is("NO_COLOR", |value| !value.is_empty())
        && !variable_is("CLICOLOR", |value| value == "0")
}

/// Whether an environment variable is set and `matches` its value.
fn variable_is(variable: &str, matches: impl FnOnce(&std::ffi::OsStr) -> bool) -> bool {
    std::env::var_os(variable).is_some_and(|value| matches(&value))
}
