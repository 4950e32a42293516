//! What all contracts share.
//!
//! A guest's options, log and clock come from the standard library, so they are the same
//! for WASI 0.2 and 0.3.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes the error to standard error as one line, and traps.
pub fn trap(error: &str) -> ! {
    let _ = writeln!(std::io::stderr(), "{error}");
    std::process::abort()
}

/// Prints the lines of a log and removes them. One write prints them all. An error
/// is ignored, so it ends no connection.
pub fn print_log(log: &mut Vec<String>) {
    if log.is_empty() {
        return;
    }
    log.push(String::new());
    let _ = std::io::stdout().write_all(log.join("\n").as_bytes());
    log.clear();
}

/// The name of a Unix socket as text: a path, or `@NAME` in the abstract namespace.
pub fn unix_name(bytes: &[u8]) -> String {
    match bytes {
        [0, name @ ..] => format!("@{}", name.escape_ascii()),
        path => String::from_utf8_lossy(path).escape_debug().to_string(),
    }
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// What becomes of a connection when a call stops serving it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is done.
    Done,
    /// It is handed over as it is.
    HandOver,
}
