//! `sockserve` run to its end.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use super::PATIENCE;
use super::process::Process;

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: Vec<String>,
    pub(crate) stderr: Vec<String>,
}

/// Runs `sockserve` with these arguments.
#[track_caller]
pub(crate) fn sockserve<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Outcome {
    run(Command::new(env!("CARGO_BIN_EXE_sockserve")).args(args))
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Outcome {
    run_within(command, PATIENCE)
}

/// The same, for a command that has much to do.
#[track_caller]
pub(crate) fn run_within(command: &mut Command, patience: Duration) -> Outcome {
    let mut process = Process::start(command);
    let status = process.wait_within(patience);
    Outcome {
        status: status.code(),
        stdout: process.stdout.lines(),
        stderr: process.stderr.lines(),
    }
}

impl Outcome {
    /// Checks that it worked, and gives what it printed.
    #[track_caller]
    pub(crate) fn printed(self) -> Vec<String> {
        assert_eq!(self.status, Some(0), "{self:#?}");
        assert!(self.stderr.is_empty(), "{self:#?}");
        self.stdout
    }
}
