//! The control plane: HTTP and JSON over a Unix socket.
//!
//! | request | what it does |
//! | --- | --- |
//! | `GET /v1/status` | every service, as `{"services": [...]}` |
//! | `GET /v1/services/NAME` | one service |
//! | `POST /v1/services/NAME/swap` | a new version; the body is a [`SwapRequest`], or a component |
//! | `POST /v1/services/NAME/promote` | the canary is current from now on |
//! | `POST /v1/services/NAME/rollback` | the version before, or no canary any more; the body may be a [`RollbackRequest`] |
//! | `GET /v1/connections`, `GET /v1/services/NAME/connections` | the open connections |
//! | `GET /v1/configuration` | the keys of the services, as the configuration file has them |
//! | `POST /v1/reload` | reads the configuration file again; answers what has changed |
//! | `GET /metrics` | the figures of all services, in the text format of Prometheus (OpenMetrics) |
//! | `GET /healthz`, `GET /readyz` | 200 if the process answers; if all services accept, else 503 |
//! | `POST /v1/kill` | ends the connections that a [`KillRequest`](crate::KillRequest) names |
//! | `POST /v1/services/NAME/suspend`, `.../resume` | accepts nothing for now; accepts again |
//! | `POST /v1/services/NAME/drain` | no new connections; the service ends with its last one |
//! | `POST /v1/shutdown` | the same for all services |
//!
//! `drain` and `shutdown` with the query `?wait` are answered when the services have ended.
//!
//! The body of a swap is a component if its content type is `application/wasm`.
//! Then the fields of the [`SwapRequest`] are in the query, as in
//! `?component=NAME&old=drain&env=MODE=line`, and `component` is only a name for the
//! component. A field with names and values is there once per name, and one with several
//! values once per value. A component may have 256 MiB, any other body 64 KiB.
//!
//! An answer is JSON. A refusal is `{"error": "one line"}` with one of these
//! statuses: 400 (not understood), 404 (no such service or request), 405 (another
//! method), 408 (the request did not arrive in time), 409 (not possible now), 413
//! (too large), 422 (the new version is not fit), 431 (the head is too large), or
//! 500 (the host failed). The socket has the mode 0600, and peers of another user
//! are refused.
//!
//! There are at most 32 connections at once; further clients wait. A connection has
//! one request, and is closed after the answer. A client has 5 seconds for the head
//! of a request, 30 for its body, and 10 to read the answer. It may close its
//! sending side after the request. A swap is answered when it is done.
//!
//! | file | |
//! | --- | --- |
//! | `spares` | descriptors that are reserved for the socket's connections |
//! | `http` | how requests and answers are written: heads, bodies |
//! | `server` | connections and answers |
//! | `request` | the bodies of requests |
//! | `settings` | what a request to swap says of settings |
//! | `client` | the side that asks |
//! | `metrics` | the figures as Prometheus reads them |
//! | `observer` | a listener for those who only look |
//! | `page` | what it shows to browsers |

pub mod client;
mod http;
mod metrics;
pub mod observer;
mod page;
mod request;
pub mod server;
mod settings;
mod spares;

use crate::registry::Registry;
use crate::service::connections::ConnectionStatus;
use crate::service::status::{ServiceState, Status};
use crate::service::swap::OldConnections;
use futures_util::future::BoxFuture;
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// How to swap, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct SwapRequest {
    /// A component file, by its absolute path, or `builtin:NAME`. A path that names
    /// another file in every process (`/dev/stdin`, `/proc/self/...`) is refused. By
    /// default the current component, with other settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// What becomes of the old version's connections: `hand-over`, `drain` or
    /// `abort`. By default `hand-over` if both versions can, else `drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<OldConnections>,
    /// How long these connections may stay with the old version, for example `30s`.
    /// By default the service's drain timeout if they drain, and no limit if they
    /// are handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<String>,
    /// A connection that tries the new version first: `send=TEXT,expect=TEXT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
    /// Whether what the instance of the old version knows is left behind. By default it
    /// passes to the new version, and a new version that does not take it is refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discard_state: bool,
    /// Variables of the handler's environment that are set. What is not named stays.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Variables that are taken away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset_env: Vec<String>,
    /// Another dispatch: `sequential`, `threaded` or `poll`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispatch: Option<String>,
    /// Limits with other values, by the names of the options of `serve`
    /// ([`LimitChanges::NAMES`](crate::LimitChanges::NAMES)) and written like those; a
    /// number may be a number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Value>,
    /// How many of 100 new connections the new version gets before it becomes current, 1
    /// to 100. By default it becomes current at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<u32>,
    /// How long it is a canary at least, for example `5min`. By default 60 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_for: Option<String>,
}

impl SwapRequest {
    /// Returns a request to swap to `component` with the defaults.
    pub fn new(component: &str) -> Self {
        Self {
            component: Some(component.to_owned()),
            ..Self::default()
        }
    }
}

/// Which version to go back to, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct RollbackRequest {
    /// The number of the version to go back to; `status` lists the versions. By
    /// default the version before, unless it was rolled back automatically.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// Whether what the instance of the current version knows is left behind, as in
    /// [`SwapRequest`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub discard_state: bool,
}

/// The status of every service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct StatusReply {
    /// The services, in the order in which they were started.
    pub services: Vec<Status>,
}

/// The answer to `drain` and `shutdown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct DrainReply {
    /// The names of the services that drain now.
    pub draining: Vec<String>,
    /// Whether they have ended. That was waited for if it was asked for.
    #[serde(default)]
    pub ended: bool,
}

/// The open connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct ConnectionsReply {
    /// By service, oldest first.
    pub connections: Vec<ConnectionStatus>,
}

/// The answer to `kill`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct KillReply {
    /// The numbers of the connections that are ended now.
    pub killed: Vec<u64>,
}

/// The answer to `suspend` and `resume`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct StateReply {
    /// The service.
    pub service: String,
    /// Its state now.
    pub state: ServiceState,
}

/// Why a request was refused, on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorReply {
    /// The line.
    pub error: String,
}

/// Whether the process is alive; with `ready`, whether all its services accept.
fn health(registry: &Registry, ready: bool) -> (StatusCode, Vec<u8>) {
    let services = registry.all();
    let statuses = services.iter().map(|it| (it.name(), it.status().state));
    let mut not_ready = statuses.filter(|(_, state)| *state != ServiceState::Serving);
    match not_ready.next() {
        Some((name, _)) if ready => {
            let line = format!("the service {name} does not accept\n");
            (StatusCode::SERVICE_UNAVAILABLE, line.into_bytes())
        }
        _ if ready && services.is_empty() => {
            let line = b"no service serves\n".to_vec();
            (StatusCode::SERVICE_UNAVAILABLE, line)
        }
        _ => (StatusCode::OK, b"ok\n".to_vec()),
    }
}

/// What reads the configuration of the process again.
pub trait Reload: Send + Sync {
    /// Reads the configuration again and changes what it changes. Returns what that was.
    fn reload(&self) -> BoxFuture<'_, Result<Value, ReloadError>>;

    /// The configuration as it is now: per service its keys, per key its values.
    fn configuration(&self) -> BoxFuture<'_, Value>;
}

/// Why nothing was reloaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The services were described by the command line.
    #[error("there is no configuration file to read again; use `serve --config FILE`")]
    NoFile,
    /// The services are ending.
    #[error("the services are ending, and the process ends with them; start it again")]
    Ending,
    /// Another reload is under way.
    #[error("another reload is under way; try again when it is done")]
    Busy,
    /// What has changed cannot change while the process runs.
    #[error("{0}")]
    Restart(String),
    /// What is wrong with the new configuration, a line per mistake.
    #[error("{}", summary(.0))]
    Refused(Vec<String>),
    /// The host failed.
    #[error("{0}")]
    Host(String),
}

impl ReloadError {
    /// An error of the host.
    pub(crate) fn host(error: impl std::fmt::Display) -> Self {
        Self::Host(error.to_string())
    }

    /// What is wrong, a line per mistake.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Refused(lines) => lines.clone(),
            error => vec![error.to_string()],
        }
    }
}

/// The first line, and how many there are besides.
fn summary(lines: &[String]) -> String {
    let first = lines.first().map_or("", String::as_str);
    match lines.len() {
        0 | 1 => first.to_owned(),
        more => format!("{first} (and {} more, in the log of the process)", more - 1),
    }
}

/// Whether this path names another file in every process.
fn is_per_process(path: &Path) -> bool {
    [
        "/dev/stdin",
        "/dev/stdout",
        "/dev/stderr",
        "/dev/fd",
        "/dev/tty",
    ]
    .iter()
    .chain(&["/proc/self", "/proc/thread-self"])
    .any(|own| path.starts_with(own))
}
