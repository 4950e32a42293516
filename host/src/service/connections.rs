//! The open connections of a service as an administrator sees them, and their end by
//! request.

use crate::connection::ConnectionId;
use crate::connection::record::{Cut, Moment, Record};
use crate::service::ServiceHandle;
use crate::text;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An open connection at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ConnectionStatus {
    /// Its number, as in the log. Never used twice while the process runs.
    pub connection: u64,
    /// The service that accepted it.
    pub service: String,
    /// The peer: `HOST:PORT`, or for a Unix socket its name or process.
    pub peer: String,
    /// The version that serves it. `None` if it is on its way to the first one.
    pub version: Option<u32>,
    /// When it was accepted, in RFC 3339.
    pub since: String,
    /// For how long it has been open, in milliseconds.
    pub open_milliseconds: u64,
    /// For how long no byte was moved, in milliseconds.
    pub idle_milliseconds: u64,
    /// Bytes read from the peer.
    pub bytes_in: u64,
    /// Bytes that the kernel has taken for the peer.
    pub bytes_out: u64,
    /// Bytes that the host holds for the peer, because the kernel takes no more.
    pub unsent: u64,
    /// What it is doing.
    pub state: ConnectionState,
}

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ConnectionState {
    /// Its handler has it, or will have it.
    Serving,
    /// There is something for the peer, and the peer takes nothing.
    Stalled,
    /// Its handler is done, and the host closes it.
    Closing,
}

/// Which connections to end: those that fit every field that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct KillRequest {
    /// Connections with these numbers. Each of them must be open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<u64>,
    /// Connections of peers with these Internet addresses, as `ADDRESS/LENGTH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Connections of this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

impl ConnectionStatus {
    fn new(service: &str, record: &Record, now: Moment) -> Self {
        let milliseconds = |since| u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX);
        Self {
            connection: record.id,
            service: service.to_owned(),
            peer: text::escape(&record.peer.to_string()).into_owned(),
            version: record.version().map(|version| version.get()),
            since: text::rfc3339(record.since),
            open_milliseconds: milliseconds(record.opened()),
            idle_milliseconds: milliseconds(record.active()),
            bytes_in: record.bytes_in(),
            bytes_out: record.bytes_out(),
            unsent: record.unsent(),
            state: if record.is_closing() {
                ConnectionState::Closing
            } else if record.stalled().is_some() {
                ConnectionState::Stalled
            } else {
                ConnectionState::Serving
            },
        }
    }
}

impl ServiceHandle {
    /// The service's open connections, oldest first.
    pub fn connections(&self) -> Vec<ConnectionStatus> {
        let now = Moment::now();
        let records = self.shared.versions.roll.all();
        let status = |record: &_| ConnectionStatus::new(self.name(), record, now);
        records.iter().map(|record| status(record)).collect()
    }

    /// Whether a connection with this number is open.
    pub(crate) fn has_connection(&self, id: ConnectionId) -> bool {
        self.shared.versions.roll.find(id).is_some()
    }

    /// Ends open connections: those with these numbers, if any are given, whose peers are
    /// in `peers`, if that is given. Their handlers do not get to say anything, unsent
    /// output is lost, and they count as killed. Returns the numbers of those that it ends.
    pub fn kill(&self, numbers: &[ConnectionId], peers: Option<IpNet>) -> Vec<ConnectionId> {
        let is_meant = |record: &Record| {
            let is_named = numbers.is_empty() || numbers.contains(&record.id);
            let comes_from = peers.is_none_or(|peers| {
                let address = record.peer.ip();
                address.is_some_and(|address| peers.contains(&address.ip().to_canonical()))
            });
            is_named && comes_from
        };
        let meant = self.shared.versions.roll.all().into_iter();
        let meant = meant.filter(|record| is_meant(record));
        let killed = meant.map(|record| {
            record.end(Cut::Killed);
            record.id
        });
        killed.collect()
    }
}
