//! What becomes of a version's connections, in numbers.

use crate::guest::failure::Failure;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// Failed connections, by reason.
#[derive(Default)]
pub(crate) struct Failures {
    error: AtomicU64,
    trap: AtomicU64,
    deadline: AtomicU64,
    memory: AtomicU64,
    instantiate: AtomicU64,
    panic: AtomicU64,
    host: AtomicU64,
    peer: AtomicU64,
    aborted: AtomicU64,
}

/// Failed connections, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct FailureCounts {
    /// The handler returned an error.
    pub error: u64,
    /// The guest trapped.
    pub trap: u64,
    /// The guest computed past its deadline.
    pub deadline: u64,
    /// The guest asked for more memory than it may have.
    pub memory: u64,
    /// No instance could be made: the connection was refused.
    pub instantiate: u64,
    /// The host panicked, in a call of the guest or beside it.
    #[serde(default)]
    pub panic: u64,
    /// The host had no room for an instance, or failed: the connection was
    /// refused.
    pub host: u64,
    /// The peer reset the connection, or the network lost it.
    pub peer: u64,
    /// The host closed the connection to end the version or the service.
    pub aborted: u64,
}

/// How often connections went, or did not go, from one version to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct HandOverCounts {
    /// Connections that it has handed over to a later version.
    pub handed_over: u64,
    /// Connections that it was offered by another version and refused.
    pub refused: u64,
}

impl HandOverCounts {
    /// Adds another version's.
    pub(crate) fn add(&mut self, other: Self) {
        self.handed_over += other.handed_over;
        self.refused += other.refused;
    }
}

impl Failures {
    pub(super) fn count(&self, failure: &Failure) {
        let counter = match failure {
            Failure::Guest(_) | Failure::Refused(_) => &self.error,
            Failure::Trap(_) => &self.trap,
            Failure::Deadline(_) => &self.deadline,
            Failure::Memory(_) => &self.memory,
            Failure::Instantiate(_) => &self.instantiate,
            Failure::Panic(_) => &self.panic,
            Failure::Host(_) | Failure::Homeless => &self.host,
            Failure::Peer(_) => &self.peer,
            Failure::Aborted => &self.aborted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> FailureCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        FailureCounts {
            error: get(&self.error),
            trap: get(&self.trap),
            deadline: get(&self.deadline),
            memory: get(&self.memory),
            instantiate: get(&self.instantiate),
            panic: get(&self.panic),
            host: get(&self.host),
            peer: get(&self.peer),
            aborted: get(&self.aborted),
        }
    }
}

impl FailureCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.error + self.by_instance() + self.host + self.peer + self.aborted
    }

    /// Those that ended an instance, or kept it from being made.
    pub(crate) fn by_instance(&self) -> u64 {
        self.trap + self.deadline + self.memory + self.instantiate + self.panic
    }

    /// Adds another version's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.error += other.error;
        self.trap += other.trap;
        self.deadline += other.deadline;
        self.memory += other.memory;
        self.instantiate += other.instantiate;
        self.panic += other.panic;
        self.host += other.host;
        self.peer += other.peer;
        self.aborted += other.aborted;
    }
}
