//! The control plane: HTTP and JSON over a Unix socket.
//!
//! | request | what it does |
//! | --- | --- |
//! | `GET /v1/status` | every service, as `{"services": [...]}` |
//! | `GET /v1/services/NAME` | one service |
//! | `POST /v1/services/NAME/swap` | a new version; the body is a [`SwapRequest`], or a component |
//! | `POST /v1/services/NAME/rollback` | the version before; the body may be a [`RollbackRequest`] |
//! | `POST /v1/services/NAME/drain` | no new connections; the service ends with its last one |
//! | `POST /v1/shutdown` | the same for all services |
//!
//! A swap's body is a component if its content type is `application/wasm`. The
//! fields of the [`SwapRequest`] then stand in the query, as in
//! `?component=NAME&old=drain`, and `component` is only what the component is
//! called. It may have 256 MiB, any other body 64 KiB.
//!
//! An answer is JSON; a refusal is `{"error": "one line"}` with a status of 400
//! (not understood), 404 (no such service or request), 405 (another method),
//! 408 (the request was not there in time), 409 (not now), 413 (too large), 422
//! (the new version is not fit), or 431 (the head is too large). The socket has the mode 0600, and peers of
//! another user are refused.
//!
//! There are at most 32 connections at once; others wait. A connection has one
//! request, and is closed after the answer. A client has 5 seconds
//! for the head of a request, 30 for its body and 10 to take the answer; it may
//! close its sending side after the request. A swap is answered when it is done.
//!
//! | file | |
//! | --- | --- |
//! | `socket` | the socket as a file, and the lock on it |
//! | `spares` | descriptors that are kept for it |
//! | `http` | how requests and answers are written: heads, bodies |
//! | `server` | connections and answers |
//! | `request` | the bodies of requests |
//! | `client` | the side that asks |

pub mod client;
mod http;
mod request;
pub mod server;
mod socket;
mod spares;

use crate::service::status::Status;
use crate::service::swap::OldConnections;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How to swap, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct SwapRequest {
    /// A component file, by its absolute path, or `builtin:NAME`. A path that
    /// means another file in every process (`/dev/stdin`, `/proc/self/...`) is
    /// refused.
    pub component: String,
    /// What becomes of the old version's connections: `hand-over`, `drain` or
    /// `abort`. By default `hand-over` if both versions can, else `drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<OldConnections>,
    /// How long they may go on with it, for example `30s`. By default the
    /// service's drain timeout if they drain, and without limit if they are
    /// handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<String>,
    /// A connection to try first: `send=TEXT,expect=TEXT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
}

impl SwapRequest {
    /// A swap to `component` with the defaults.
    pub fn new(component: &str) -> Self {
        Self {
            component: component.to_owned(),
            ..Self::default()
        }
    }
}

/// Where to go back to, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub struct RollbackRequest {
    /// The version to go to, by its number; `status` says which there is. By default
    /// the one before, unless it was taken back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
}

/// Every service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct StatusReply {
    /// In the order they were started.
    pub services: Vec<Status>,
}

/// A request that is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct DrainReply {
    /// The services that drain now.
    pub draining: Vec<String>,
}

/// Why a request was refused, on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorReply {
    /// The line.
    pub error: String,
}

/// Whether every process has a file of its own under this path.
fn means_another_file(path: &Path) -> bool {
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
