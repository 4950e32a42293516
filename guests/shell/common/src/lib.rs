//! What the shells of all contracts share: a guest's options, its log and its
//! clock, which come by way of the standard library and are the same for WASI 0.2
//! and 0.3, and what is handed over.

pub mod hand_over;

use std::io::Write;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

pub use hand_over::{ConnectionId, Speaks};

/// The option `name`, an environment variable: its default when it is not set.
/// The error is one line that says what was expected.
pub fn option<T>(name: &str) -> Result<T, String>
where
    T: FromStr<Err = String> + Default,
{
    protocol::parse_option(name, std::env::var_os(name))
}

/// The option `name`, where the contract has no way to return an error: says what
/// was expected and traps.
pub fn option_or_trap<T>(name: &str) -> T
where
    T: FromStr<Err = String> + Default,
{
    option(name).unwrap_or_else(|error| trap(&error))
}

/// Says why on one line of standard error, and traps.
pub fn trap(error: &str) -> ! {
    let _ = writeln!(std::io::stderr(), "{error}");
    std::process::abort()
}

/// Prints and takes the lines of a log. They go out in one write, and a host that
/// takes no output costs no connection.
pub fn print_log(log: &mut Vec<String>) {
    if log.is_empty() {
        return;
    }
    log.push(String::new());
    let _ = std::io::stdout().write_all(log.join("\n").as_bytes());
    log.clear();
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// How far a call has come with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// To its end.
    Done,
    /// It is to be handed over as it is.
    Told,
}
