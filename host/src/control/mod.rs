//! The control plane: HTTP and JSON over a Unix socket.
//!
//! | request | what it does |
//! | --- | --- |
//! | `GET /v1/status` | every service, as `{"services": [...]}` |
//! | `GET /v1/services/NAME` | one service |
//! | `POST /v1/services/NAME/swap` | a new version; the body is a [`SwapRequest`], or a component |
//! | `POST /v1/services/NAME/rollback` | the version before; the body may be a [`RollbackRequest`] |
//! | `GET /v1/connections`, `GET /v1/services/NAME/connections` | the open connections |
//! | `POST /v1/kill` | ends the connections that a [`KillRequest`](crate::KillRequest) names |
//! | `POST /v1/services/NAME/suspend`, `.../resume` | accepts nothing for now; accepts again |
//! | `POST /v1/services/NAME/drain` | no new connections; the service ends with its last one |
//! | `POST /v1/shutdown` | the same for all services |
//!
//! `drain` and `shutdown` with the query `?wait` are answered when the services have ended.
//!
//! The body of a swap is a component if its content type is `application/wasm`.
//! Then the fields of the [`SwapRequest`] are in the query, as in
//! `?component=NAME&old=drain`, and `component` is only a name for the component. A
//! component may have 256 MiB, any other body 64 KiB.
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
//! | `client` | the side that asks |

pub mod client;
mod http;
mod request;
pub mod server;
mod spares;

use crate::service::connections::ConnectionStatus;
use crate::service::status::{ServiceState, Status};
use crate::service::swap::OldConnections;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How to swap, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct SwapRequest {
    /// A component file, by its absolute path, or `builtin:NAME`. A path that names
    /// another file in every process (`/dev/stdin`, `/proc/self/...`) is refused.
    pub component: String,
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
}

impl SwapRequest {
    /// Returns a request to swap to `component` with the defaults.
    pub fn new(component: &str) -> Self {
        Self {
            component: component.to_owned(),
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
