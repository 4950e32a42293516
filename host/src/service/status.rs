//! What a service says of itself.

use crate::lifecycle::Phase;
use crate::log_queue;
use crate::service::ServiceHandle;
use crate::text;
use crate::version::Version;
use crate::version::counts::{FailureCounts, HandOverCounts};
use crate::version::versions::Previous;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A service, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Where it listens, as `tcp://HOST:PORT`.
    pub listeners: Vec<String>,
    /// The contract of its current version.
    pub contract: String,
    /// Its dispatch.
    pub dispatch: String,
    /// Whether it accepts.
    pub state: ServiceState,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections open, those being closed included.
    pub open: u64,
    /// Connections whose handler ended well.
    pub handled: u64,
    /// Connections closed before their handler ran, because no instance could
    /// be made; they are among the failed ones.
    pub refused: u64,
    /// Connections that failed, by reason.
    pub failed: FailureCounts,
    /// Connections that went, or did not go, from one version to another.
    pub hand_overs: HandOverCounts,
    /// Bytes read from peers.
    pub bytes_in: u64,
    /// Bytes sent to peers.
    pub bytes_out: u64,
    /// Lines of the log, and of its guests' output there, that nobody read in
    /// time and that were dropped.
    #[serde(default)]
    pub log_lines_dropped: u64,
    /// The current version and those that still have connections, oldest first.
    pub versions: Vec<VersionStatus>,
    /// Where a rollback would go, if there is anything to go back to.
    #[serde(default)]
    pub previous: Option<PreviousStatus>,
    /// Why a version was last rolled back, if one was.
    pub rolled_back: Option<String>,
}

/// Whether a service accepts connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ServiceState {
    /// It does.
    Serving,
    /// It lets open ones finish.
    Draining,
    /// It closes open ones.
    Aborting,
}

/// A version of a service's handler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct VersionStatus {
    /// Counts up from 1.
    pub number: u32,
    /// Whether new connections go to it.
    pub state: VersionState,
    /// Where its component came from, on one line.
    pub source: String,
    /// SHA-256 of its component file, in hexadecimal.
    pub sha256: String,
    /// Its contract.
    pub contract: String,
    /// When it was loaded, in RFC 3339; a time before 1970 or after 9999 as the
    /// nearest that is not.
    pub loaded_at: String,
    /// Connections on it, those being closed included.
    pub connections: u64,
    /// Connections whose handler ended well.
    pub handled: u64,
    /// Connections that failed, by reason.
    pub failed: FailureCounts,
    /// Connections that it has handed over, and ones that it refused.
    pub hand_overs: HandOverCounts,
    /// Why it is no longer current, if that was a rollback.
    pub reason: Option<String>,
}

/// The version that a rollback would make current again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct PreviousStatus {
    /// The number that it had.
    pub number: u32,
    /// Where its component came from.
    pub source: String,
    /// SHA-256 of its component file, in hexadecimal.
    pub sha256: String,
    /// Why it was taken back by itself, if it was. A rollback goes to it only if it is
    /// named.
    pub condemned: Option<String>,
}

impl From<&Previous> for PreviousStatus {
    fn from(previous: &Previous) -> Self {
        Self {
            number: previous.number.get(),
            source: previous.handler.source().to_owned(),
            sha256: previous.handler.digest().to_owned(),
            condemned: previous.condemned.clone(),
        }
    }
}

/// Whether new connections go to a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum VersionState {
    /// They do.
    Current,
    /// It has old ones only.
    Draining,
}

impl From<Phase> for ServiceState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Serving => Self::Serving,
            Phase::Draining => Self::Draining,
            Phase::Aborting => Self::Aborting,
        }
    }
}

impl VersionStatus {
    fn new(version: &Version, state: VersionState) -> Self {
        Self {
            number: version.number.get(),
            state,
            source: text::escape(version.handler.source()).into_owned(),
            sha256: version.handler.digest().to_owned(),
            contract: version.handler.contract().to_string(),
            loaded_at: text::rfc3339(version.loaded_at),
            connections: version.open(),
            handled: version.handled(),
            failed: version.failures(),
            hand_overs: version.hand_overs(),
            reason: version.ended_because(),
        }
    }
}

impl ServiceHandle {
    /// The service's name.
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// How the service is now.
    pub fn status(&self) -> Status {
        let service = &self.shared;
        let versions = &service.versions;
        // Under one guard, so that no version is counted twice or missed.
        let mut history = versions.history();
        let all = versions.all_in(&mut history);
        let current = versions.current();
        let (mut handled, mut failed) = (history.handled, history.failures);
        let mut hand_overs = history.hand_overs;
        for version in &all {
            handled += version.handled();
            failed.add(&version.failures());
            hand_overs.add(version.hand_overs());
        }
        let open = all.iter().map(|version| version.open()).sum();
        let statuses = all
            .iter()
            .map(|version| {
                let state = if Arc::ptr_eq(version, &current) {
                    VersionState::Current
                } else {
                    VersionState::Draining
                };
                VersionStatus::new(version, state)
            })
            .collect();
        Status {
            name: service.name().to_owned(),
            listeners: service
                .local_addresses
                .iter()
                .map(|address| format!("tcp://{address}"))
                .collect(),
            contract: current.handler.contract().to_string(),
            dispatch: service.dispatch.to_string(),
            state: versions.phase().into(),
            accepted: service.accepted(),
            open,
            handled,
            refused: failed.instantiate + failed.host,
            failed,
            hand_overs,
            bytes_in: versions.traffic.bytes_in(),
            bytes_out: versions.traffic.bytes_out(),
            log_lines_dropped: log_queue::dropped(service.name()),
            versions: statuses,
            previous: history.previous.as_ref().map(PreviousStatus::from),
            rolled_back: history.rolled_back.clone(),
        }
    }
}
