//! How many of a version's connections ended in which way.

use crate::connection::record::Cut;
use crate::guest::failure::Failure;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts failed connections, by reason.
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
    timeout: AtomicU64,
    killed: AtomicU64,
    aborted: AtomicU64,
}

/// Failed connections, by reason, at one moment.
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
    /// No instance could be made, and the connection was refused.
    pub instantiate: u64,
    /// The host panicked, in a call of the guest or outside of one.
    #[serde(default)]
    pub panic: u64,
    /// The host failed or had no room for an instance, and the connection was refused.
    /// Or a connection was given up, was not taken over, and its own version had ended.
    pub host: u64,
    /// The peer reset the connection, or the network lost it.
    pub peer: u64,
    /// A time-out of the connection was over: its first byte, a rest, a stalled write, or
    /// the whole of it.
    #[serde(default)]
    pub timeout: u64,
    /// Somebody asked for the end of the connection (`sockserve kill`).
    #[serde(default)]
    pub killed: u64,
    /// The host closed the connection to end the version or the service.
    pub aborted: u64,
}

/// How many connections went from one version to another, and how many were refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct HandOverCounts {
    /// Connections that this version has handed over to a later version.
    pub handed_over: u64,
    /// Connections that another version offered, and that this version did not take.
    pub refused: u64,
}

impl HandOverCounts {
    /// Adds the counts of another version.
    pub(crate) fn add(&mut self, other: Self) {
        self.handed_over += other.handed_over;
        self.refused += other.refused;
    }
}

impl Failures {
    /// Counts failed connections or datagrams.
    pub(super) fn count(&self, failure: &Failure, count: u64) {
        let counter = match failure {
            Failure::Guest(_) | Failure::RefusedBack(_) => &self.error,
            Failure::Trap(_) => &self.trap,
            Failure::Deadline(_) => &self.deadline,
            Failure::Memory(_) => &self.memory,
            Failure::Instantiate(_) => &self.instantiate,
            Failure::Panic(_) => &self.panic,
            Failure::Host(_) | Failure::NotTakenOver => &self.host,
            // One that was not let in is no failure, and is counted elsewhere.
            Failure::Peer(_) | Failure::Unverified(_) => &self.peer,
            Failure::Cut(Cut::Killed) => &self.killed,
            Failure::Cut(_) => &self.timeout,
            Failure::Aborted => &self.aborted,
        };
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Reads all counters.
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
            timeout: get(&self.timeout),
            killed: get(&self.killed),
            aborted: get(&self.aborted),
        }
    }
}

impl FailureCounts {
    /// All failed connections.
    pub fn total(&self) -> u64 {
        let by_host = self.host + self.timeout + self.killed + self.aborted;
        self.error + self.by_instance() + self.peer + by_host
    }

    /// Failed connections whose instance died or could not be made.
    pub(crate) fn by_instance(&self) -> u64 {
        self.trap + self.deadline + self.memory + self.instantiate + self.panic
    }

    /// Adds the counts of another version.
    pub(crate) fn add(&mut self, other: &Self) {
        self.error += other.error;
        self.trap += other.trap;
        self.deadline += other.deadline;
        self.memory += other.memory;
        self.instantiate += other.instantiate;
        self.panic += other.panic;
        self.host += other.host;
        self.peer += other.peer;
        self.timeout += other.timeout;
        self.killed += other.killed;
        self.aborted += other.aborted;
    }
}
