//! What a service reports of itself.

use crate::admission::refusal::RefusedCounts;
use crate::datagram::counts::DatagramCounts;
use crate::guest::handler::Handler;
use crate::lifecycle::Phase;
use crate::limits::Limits;
use crate::log_queue;
use crate::service::ServiceHandle;
use crate::service::rates::{Rates, Sums};
use crate::sync::lock;
use crate::text;
use crate::version::Version;
use crate::version::counts::{FailureCounts, HandOverCounts};
use crate::version::latency::LatencyCounts;
use crate::version::versions::Previous;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// A service at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Where it listens, as `tcp://HOST:PORT` or `unix:///PATH`.
    pub listeners: Vec<String>,
    /// The contract of its current version.
    pub contract: String,
    /// Its dispatch.
    pub dispatch: String,
    /// Whether it accepts connections.
    pub state: ServiceState,
    /// Connections that were accepted, or datagrams that a guest got or that were refused.
    /// They are open, handled, failed or refused, and each is one of these.
    pub accepted: u64,
    /// Open connections, those being closed included.
    pub open: u64,
    /// Connections whose handler ended with success.
    pub handled: u64,
    /// Connections or datagrams that were not let in, by reason.
    #[serde(default)]
    pub refused: RefusedCounts,
    /// Connections that failed, by reason.
    pub failed: FailureCounts,
    /// Connections that went from one version to another, and those that were refused.
    pub hand_overs: HandOverCounts,
    /// The datagrams of the service. All 0 if it serves connections.
    #[serde(default)]
    pub datagrams: DatagramCounts,
    /// Bytes read from peers.
    pub bytes_in: u64,
    /// Bytes that the kernel has taken for peers.
    pub bytes_out: u64,
    /// Lines of the service's log, with its guests' output there, that were dropped
    /// because the log's reader was too slow.
    #[serde(default)]
    pub log_lines_dropped: u64,
    /// What it has done per second lately.
    #[serde(default)]
    pub rates: Rates,
    /// How long the calls of its guests took.
    #[serde(default)]
    pub calls: LatencyCounts,
    /// What its instances take.
    #[serde(default)]
    pub memory: MemoryStatus,
    /// Its limits, as they are in force.
    #[serde(default)]
    pub limits: LimitsStatus,
    /// The current version and those that still have connections, oldest first.
    pub versions: Vec<VersionStatus>,
    /// Where a rollback would go. `None` if there is nothing to go back to.
    #[serde(default)]
    pub previous: Option<PreviousStatus>,
    /// Which version was last rolled back, and why. `None` if none was.
    pub rolled_back: Option<String>,
}

/// What the instances of a service take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct MemoryStatus {
    /// Instances that are alive.
    pub instances: u64,
    /// What they have asked for, in their memories and tables together. The system gives
    /// a page of it when a guest touches it.
    pub bytes: u64,
}

/// The limits of a service that is running. The times are in seconds; `None` is without
/// limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct LimitsStatus {
    /// Connections that may be open at once. Fewer than asked for, if the process may not
    /// have as many descriptors.
    pub max_connections: u32,
    /// The memory of one instance.
    pub max_memory_bytes: u64,
    /// How long a guest may compute without a wait.
    pub deadline_seconds: f64,
    /// Event loops of a handler whose instance serves all connections.
    pub loops: usize,
    /// How many connections an instance serves, one after another.
    pub reuse: u32,
    /// How long the close of a connection may take.
    pub close_timeout_seconds: f64,
    /// How long connections may stay when the service drains.
    pub drain_timeout_seconds: f64,
    /// How long a peer may take to send its first byte.
    pub first_byte_timeout_seconds: Option<f64>,
    /// How long a connection may be without a byte.
    pub idle_timeout_seconds: Option<f64>,
    /// How long a peer may take nothing though there is something for it.
    pub write_timeout_seconds: Option<f64>,
    /// How long a connection may be open.
    pub connection_timeout_seconds: Option<f64>,
}

/// Whether a service accepts connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ServiceState {
    /// It accepts connections.
    Serving,
    /// It accepts none until it is told to go on. Open connections are served, and peers
    /// wait with the kernel.
    Suspended,
    /// It accepts none, and lets open connections finish.
    Draining,
    /// It accepts none, and closes open connections.
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
    /// How many of 100 new connections go to it, if it is a canary. `None` if it is none.
    #[serde(default)]
    pub canary_percent: Option<u8>,
    /// The variables of its environment, by name. Their values may be secrets.
    #[serde(default)]
    pub env: Vec<String>,
    /// When it was loaded, in RFC 3339. A time before 1970 or after 9999 is shown as
    /// the nearest time between.
    pub loaded_at: String,
    /// Connections on this version, those being closed included.
    pub connections: u64,
    /// Connections whose handler ended with success.
    pub handled: u64,
    /// Connections that it did not let in (`verify`).
    #[serde(default)]
    pub refused_by_handler: u64,
    /// Connections that failed, by reason.
    pub failed: FailureCounts,
    /// Connections that this version has handed over, and those that it refused.
    pub hand_overs: HandOverCounts,
    /// Why it was rolled back. `None` if it was not.
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
    /// Why it was taken back by itself; a rollback then goes to it only if it is named.
    /// `None` if it was not.
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
    /// New connections go to it.
    Current,
    /// A share of the new connections goes to it, and it may become current.
    Canary,
    /// It has old connections only.
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

impl From<&Limits> for LimitsStatus {
    fn from(limits: &Limits) -> Self {
        let seconds = |time: Option<Duration>| time.map(|it| it.as_secs_f64());
        Self {
            max_connections: limits.max_connections,
            max_memory_bytes: limits.max_memory_bytes,
            deadline_seconds: limits.deadline.as_secs_f64(),
            loops: limits.loops,
            reuse: limits.reuse,
            close_timeout_seconds: limits.close_timeout.as_secs_f64(),
            drain_timeout_seconds: limits.drain_timeout.as_secs_f64(),
            first_byte_timeout_seconds: seconds(limits.first_byte_timeout),
            idle_timeout_seconds: seconds(limits.idle_timeout),
            write_timeout_seconds: seconds(limits.write_timeout),
            connection_timeout_seconds: seconds(limits.connection_timeout),
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
            canary_percent: None,
            env: variables(&version.handler),
            loaded_at: text::rfc3339(version.loaded_at),
            connections: version.open(),
            handled: version.handled(),
            refused_by_handler: version.refused_by_handler(),
            failed: version.failures(),
            hand_overs: version.hand_overs(),
            reason: version.ended_because(),
        }
    }
}

/// The names of a handler's variables, each on one line.
fn variables(handler: &Handler) -> Vec<String> {
    let env = handler.options().grants.env.iter();
    let names = env.map(|(name, _)| text::escape(name).into_owned());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names.dedup();
    names
}

impl ServiceHandle {
    /// The service's name.
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// Whether the service's threads run its tasks. Returns when they do; false if the
    /// service has ended.
    pub(crate) async fn answers(&self) -> bool {
        let (answer, answered) = oneshot::channel();
        self.shared.versions.spawn_task(async move {
            let _ = answer.send(());
        });
        answered.await.is_ok()
    }

    /// Returns the service's status at this moment.
    pub fn status(&self) -> Status {
        let service = &self.shared;
        let versions = &service.versions;
        // Under one guard, so that no version is counted twice or missed.
        let mut history = versions.history();
        let all = versions.all_in(&mut history);
        let (current, canary) = (versions.current(), versions.canary());
        let (mut handled, mut failed) = (history.handled, history.failures);
        let mut hand_overs = history.hand_overs;
        let mut refused_by_handler = history.refused_by_handler;
        for version in &all {
            handled += version.handled();
            refused_by_handler += version.refused_by_handler();
            failed.add(&version.failures());
            hand_overs.add(version.hand_overs());
        }
        let mut refused = service.admission.refused();
        let is_for_datagrams = current.handler.contract().takes_datagrams();
        let open: u64 = all.iter().map(|version| version.open()).sum();
        let statuses = all
            .iter()
            .map(|version| {
                let canary = canary
                    .as_ref()
                    .filter(|it| Arc::ptr_eq(version, &it.version));
                let state = match canary {
                    _ if Arc::ptr_eq(version, &current) => VersionState::Current,
                    Some(_) => VersionState::Canary,
                    None => VersionState::Draining,
                };
                let mut status = VersionStatus::new(version, state);
                status.canary_percent = canary.map(|canary| canary.percent);
                status
            })
            .collect();
        let limits = LimitsStatus {
            // A reload changes it by another version.
            reuse: versions.current().handler.limits().reuse,
            ..LimitsStatus::from(&*versions.limits())
        };
        // Those that are refused here were never let in, and no version counts them.
        let not_let_in = refused.total();
        refused.handler = refused_by_handler;
        let accepted = not_let_in
            + if is_for_datagrams {
                open + handled + failed.total() + refused_by_handler
            } else {
                service.accepted()
            };
        let traffic = &versions.roll.traffic;
        let mut status = Status {
            name: service.name().to_owned(),
            listeners: service
                .listeners
                .addresses()
                .iter()
                .map(ToString::to_string)
                .collect(),
            contract: current.handler.contract().to_string(),
            dispatch: current.handler.dispatch().to_string(),
            state: match versions.phase() {
                Phase::Serving if versions.is_suspended() => ServiceState::Suspended,
                phase => phase.into(),
            },
            accepted,
            open,
            handled,
            refused,
            failed,
            hand_overs,
            datagrams: versions.datagrams.counts(),
            bytes_in: traffic.bytes_in(),
            bytes_out: traffic.bytes_out(),
            log_lines_dropped: log_queue::lines_dropped(service.name()),
            rates: Rates::default(),
            calls: versions.calls.counts(),
            memory: MemoryStatus {
                instances: versions.memory.instances(),
                bytes: versions.memory.bytes(),
            },
            limits,
            versions: statuses,
            previous: history.previous.as_ref().map(PreviousStatus::from),
            rolled_back: history.rolled_back.clone(),
        };
        drop(history);
        status.rates = lock(&service.samples).rates(Instant::now(), Sums::of(&status));
        status
    }
}
