//! How a connection or an instance failed, and whose fault that is.

use crate::connection::record::Cut;
use crate::guest::clock::DeadlineExceeded;
use crate::panics;
use crate::text::{self, one_line};
use std::any::Any;
use std::fmt;
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Guest,
    Host,
    Peer,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guest => "guest",
            Self::Host => "host",
            Self::Peer => "peer",
        })
    }
}

/// Why a call into a guest did not end well. One line each.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The handler returned `err`.
    #[error("the handler returned an error: {}", one_line(.0))]
    Guest(String),
    /// The handler returned `err` on a connection that the peer had reset or the
    /// network had lost.
    #[error("the connection was lost, and the handler returned: {}", one_line(.0))]
    Peer(String),
    /// The handler does not let the peer in. This is no failure of the connection.
    #[error("the handler did not let it in: {}", one_line(.0))]
    Unverified(String),
    /// The guest trapped.
    #[error("the guest trapped: {0}")]
    Trap(String),
    /// The guest computed past the deadline, or a call that must not wait took
    /// longer: a turn of `evented`, or a call of `hand-over`.
    #[error("the guest trapped: {0}")]
    Deadline(#[from] DeadlineExceeded),
    /// The guest asked for more memory than it may have.
    #[error("the guest trapped: {0}")]
    Memory(MemoryExceeded),
    /// No instance could be made.
    #[error("cannot make an instance: {0}")]
    Instantiate(String),
    /// The host panicked in a call of the guest.
    #[error("{0}")]
    Panic(#[from] HostPanic),
    /// The host has no room for another instance, or failed.
    #[error("the host failed: {0}")]
    Host(String),
    /// The handler gave the connection up, no other version took it, and the
    /// handler then refused it.
    #[error("nobody took the connection over, and its own version refused it: {}", one_line(.0))]
    RefusedBack(String),
    /// The handler gave the connection up, no other version took it, and the
    /// handler had ended.
    #[error("nobody took the connection over, and its own version has ended")]
    NotTakenOver,
    /// The host has ended the connection: a time-out, or a request.
    #[error("closed: {0}")]
    Cut(Cut),
    /// The service or the version is ending, and closes its connections now.
    #[error("closed, because the service or its version is ending")]
    Aborted,
}

/// An instance asked for more memory than its limit.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("memory past the limit of {0} bytes")]
pub(crate) struct MemoryExceeded(pub(crate) u64);

/// All services together have no memory left for what an instance asked for. That is not
/// the guest's fault.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "no memory left for an instance of {wanted} bytes: those of all services may have {limit} \
     bytes together (--max-memory-total)"
)]
pub(crate) struct NoMemoryLeft {
    /// What the instance would have had.
    pub(crate) wanted: u64,
    /// What all of them may have.
    pub(crate) limit: u64,
}

/// The host panicked.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the host panicked: {}", one_line(.0))]
pub(crate) struct HostPanic(String);

impl HostPanic {
    /// Describes a panic: by the note of the panic hook, or else by the thrown
    /// value.
    pub(crate) fn new(thrown: &(dyn Any + Send)) -> Self {
        Self(panics::take_last().unwrap_or_else(|| panics::message(thrown).to_owned()))
    }

    /// Describes a panic that another task has caught.
    pub(crate) fn unknown() -> Self {
        Self("a task of the connection ended by a panic".to_owned())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Host(error.to_string())
    }
}

impl Failure {
    /// Returns whose fault the failure is.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Self::Guest(_)
            | Self::Trap(_)
            | Self::Deadline(_)
            | Self::Memory(_)
            | Self::RefusedBack(_) => Fault::Guest,
            Self::Peer(_)
            | Self::Unverified(_)
            | Self::Cut(Cut::FirstByte(_) | Cut::Idle(_) | Cut::Write(_) | Cut::Whole(_)) => {
                Fault::Peer
            }
            Self::Instantiate(_)
            | Self::Panic(_)
            | Self::Host(_)
            | Self::NotTakenOver
            | Self::Cut(Cut::Killed)
            | Self::Aborted => Fault::Host,
        }
    }

    /// Returns the failure of a handler that gave a connection up but still holds a
    /// resource of it.
    pub(crate) fn still_held() -> Self {
        Self::Guest("it gave the connection up and still holds it".to_owned())
    }

    /// Converts the result of a handler's call.
    pub(crate) fn from_result(result: wasmtime::Result<Result<(), String>>) -> Result<(), Self> {
        match result {
            Ok(returned) => returned.map_err(Self::Guest),
            Err(error) => Err(Self::from_call(&error)),
        }
    }

    /// Classifies an error that wasmtime reports for a call.
    pub(crate) fn from_call(error: &wasmtime::Error) -> Self {
        if let Some(DeadlineExceeded(deadline)) = error.downcast_ref() {
            return Self::Deadline(DeadlineExceeded(*deadline));
        }
        if let Some(exceeded) = error.downcast_ref::<MemoryExceeded>() {
            return Self::Memory(*exceeded);
        }
        if let Some(none_left) = error.downcast_ref::<NoMemoryLeft>() {
            return Self::Host(none_left.to_string());
        }
        if let Some(panic) = error.downcast_ref::<HostPanic>() {
            return Self::Panic(panic.clone());
        }
        if let Some(I32Exit(status)) = error.downcast_ref() {
            return Self::Trap(format!("it called exit with status {status}"));
        }
        if let Some(trap) = error.downcast_ref::<Trap>() {
            return Self::Trap(trap.to_string());
        }
        Self::Trap(root_cause(error))
    }

    /// Classifies an error that wasmtime reports for an instantiation.
    pub(crate) fn from_instantiation(error: &wasmtime::Error) -> Self {
        if error.is::<PoolConcurrencyLimitError>() {
            return Self::Host(root_cause(error));
        }
        match Self::from_call(error) {
            Self::Trap(reason) => Self::Instantiate(reason),
            Self::Deadline(deadline) => Self::Instantiate(deadline.to_string()),
            Self::Memory(exceeded) => Self::Instantiate(exceeded.to_string()),
            other => other,
        }
    }
}

/// Returns the innermost reason, on one line.
pub(crate) fn root_cause(error: &wasmtime::Error) -> String {
    // wasmtime's texts may have several lines, and may name a place in its source.
    let text = error.root_cause().to_string();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    one_line(&text::without_build_paths(&lines.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wasmtime_says_is_one_line_without_its_source() {
        let error = wasmtime::Error::msg("BUG: no\nlocation: /x/registry/src/y/z-1/a.rs:3\n  end");
        assert_eq!(root_cause(&error), "BUG: no location: z-1/a.rs:3 end");
    }

    #[test]
    fn failures_are_sorted_by_what_the_call_reports() {
        let check = |error: wasmtime::Error, expected: &str| {
            let failure = Failure::from_call(&error.context("while calling the guest"));
            assert_eq!(failure.to_string(), expected);
            assert_eq!(failure.fault(), Fault::Guest);
        };
        check(
            DeadlineExceeded(std::time::Duration::from_secs(1)).into(),
            "the guest trapped: no wait within the deadline of 1s",
        );
        check(
            MemoryExceeded(65536).into(),
            "the guest trapped: memory past the limit of 65536 bytes",
        );
        check(
            I32Exit(3).into(),
            "the guest trapped: it called exit with status 3",
        );
        check(
            Trap::UnreachableCodeReached.into(),
            "the guest trapped: wasm trap: wasm `unreachable` instruction executed",
        );
    }
}
