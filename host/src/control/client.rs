//! The client of the control plane.
//!
//! The client does not wait for a process that shows no sign of life. A connection
//! and an ordinary answer may take 5 seconds. A swap may take any time, because a
//! component may compile slowly. Meanwhile the client asks the process for its
//! status every 5 seconds, and gives up if there is no answer.

use crate::control::{ErrorReply, RollbackRequest, StatusReply, SwapRequest};
use crate::service::connections::KillRequest;
use crate::socket_file::{MAX_PATH, address};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// How long a process may show no sign of life.
const PATIENCE: Duration = Duration::from_secs(5);
/// The pause before another try to connect, if the backlog is full.
const PAUSE: Duration = Duration::from_millis(20);
/// The largest answer, in bytes.
const MAX_ANSWER: usize = 16 << 20;

/// Why a request failed. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No process has the socket open.
    #[error(
        "nobody answers on the control socket {path}: {1}; start a service with --control {path}",
        path = .0.display()
    )]
    Nobody(PathBuf, #[source] io::Error),
    /// The path names something other than a socket.
    #[error("{} is no socket; name the path that `serve --control` was given", .0.display())]
    NotASocket(PathBuf),
    /// This user may not use the socket.
    #[error(
        "the control socket {} may not be used: {}; ask as the user who serves, or as root",
        .0.display(), .1
    )]
    Denied(PathBuf, #[source] io::Error),
    /// The path does not fit into a socket's address.
    #[error(
        "{}: a control socket's path has 1 to {MAX_PATH} bytes; name a shorter one, for example a \
         relative one", .0.display()
    )]
    Length(PathBuf),
    /// The socket cannot be reached for another reason.
    #[error("the control socket {} cannot be reached: {}", .0.display(), .1)]
    Unreachable(PathBuf, #[source] io::Error),
    /// The process that has the socket shows no sign of life.
    #[error(
        "the process that has the control socket {} does not answer within {PATIENCE:?}; see \
         whether it is stopped", .0.display()
    )]
    Silent(PathBuf),
    /// Another user has the socket.
    #[error(
        "the control socket {} is the user {}'s, who could say anything; ask as that user",
        .0.display(), .1
    )]
    Stranger(PathBuf, u32),
    /// The process ended, or closed the connection, before it answered.
    #[error(
        "the process that has the control socket {} closed the connection before it answered; see \
         whether it still runs", .0.display()
    )]
    Broken(PathBuf),
    /// The answer is not from sockserve.
    #[error("what the control socket {} answers is not sockserve's: {}", .0.display(), .1)]
    Foreign(PathBuf, String),
    /// The HTTP request cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(#[from] hyper::http::Error),
    /// The request's JSON cannot be written.
    #[error("the request cannot be written: {0}")]
    Json(#[from] serde_json::Error),
    /// The server refused the request, and says why.
    #[error("{0}")]
    Refused(String),
}

/// A request, and whether it may take long.
#[derive(Clone, Debug)]
pub struct Question {
    method: Method,
    /// The path and the query.
    path: String,
    content_type: Option<&'static str>,
    body: Bytes,
    /// The answer may take any time, as long as the process shows signs of life.
    slow: bool,
}

impl Question {
    /// Asks for the status of every service.
    pub fn status() -> Self {
        Self::new(Method::GET, "/v1/status".to_owned())
    }

    /// Asks for another version of a service.
    pub fn swap(service: &str, request: &SwapRequest) -> serde_json::Result<Self> {
        Ok(Self {
            content_type: Some("application/json"),
            body: serde_json::to_vec(request)?.into(),
            slow: true,
            ..Self::new(Method::POST, swap_path(service))
        })
    }

    /// Asks for another version of a service, and sends its component. `component`
    /// in the request is only a name for it.
    pub fn swap_component(
        service: &str,
        request: &SwapRequest,
        component: Vec<u8>,
    ) -> serde_json::Result<Self> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Value::Object(fields) = serde_json::to_value(request)? {
            for (name, value) in &fields {
                match value {
                    Value::Object(map) => {
                        for (key, value) in map {
                            query.append_pair(name, &format!("{key}={}", plain(value)));
                        }
                    }
                    Value::Array(list) => {
                        for value in list {
                            query.append_pair(name, &plain(value));
                        }
                    }
                    value => {
                        query.append_pair(name, &plain(value));
                    }
                }
            }
        }
        let path = format!("{}?{}", swap_path(service), query.finish());
        Ok(Self {
            content_type: Some("application/wasm"),
            body: component.into(),
            slow: true,
            ..Self::new(Method::POST, path)
        })
    }

    /// Asks for the canary to become current.
    pub fn promote(service: &str) -> Self {
        Self {
            slow: true,
            ..Self::new(Method::POST, format!("/v1/services/{service}/promote"))
        }
    }

    /// Asks to go back to the version before.
    pub fn rollback(service: &str, request: &RollbackRequest) -> serde_json::Result<Self> {
        Ok(Self {
            content_type: Some("application/json"),
            body: serde_json::to_vec(request)?.into(),
            slow: true,
            ..Self::new(Method::POST, format!("/v1/services/{service}/rollback"))
        })
    }

    /// Asks for the open connections, of all services or of one.
    pub fn connections(service: Option<&str>) -> Self {
        let path = match service {
            None => "/v1/connections".to_owned(),
            Some(service) => format!("/v1/services/{service}/connections"),
        };
        Self::new(Method::GET, path)
    }

    /// Asks for the keys of the services, as the configuration file has them.
    pub fn configuration() -> Self {
        Self::new(Method::GET, "/v1/configuration".to_owned())
    }

    /// Asks the process to read its configuration file again.
    pub fn reload() -> Self {
        Self {
            slow: true,
            ..Self::new(Method::POST, "/v1/reload".to_owned())
        }
    }

    /// Asks for the end of connections.
    pub fn kill(request: &KillRequest) -> serde_json::Result<Self> {
        Ok(Self {
            content_type: Some("application/json"),
            body: serde_json::to_vec(request)?.into(),
            ..Self::new(Method::POST, "/v1/kill".to_owned())
        })
    }

    /// Asks a service to accept nothing for now.
    pub fn suspend(service: &str) -> Self {
        Self::new(Method::POST, format!("/v1/services/{service}/suspend"))
    }

    /// Asks a service to accept again.
    pub fn resume(service: &str) -> Self {
        Self::new(Method::POST, format!("/v1/services/{service}/resume"))
    }

    /// Asks a service to take no new connections.
    pub fn drain(service: &str) -> Self {
        Self::new(Method::POST, format!("/v1/services/{service}/drain"))
    }

    /// Asks all services to take no new connections.
    pub fn shutdown() -> Self {
        Self::new(Method::POST, "/v1/shutdown".to_owned())
    }

    /// Asks for the answer to [`drain`](Self::drain) or [`shutdown`](Self::shutdown) when
    /// the services have ended.
    #[must_use]
    pub fn and_wait(mut self) -> Self {
        self.path.push_str("?wait");
        self.slow = true;
        self
    }

    fn new(method: Method, path: String) -> Self {
        Self {
            method,
            path,
            content_type: None,
            body: Bytes::new(),
            slow: false,
        }
    }
}

/// A text as it is, and anything else as JSON.
fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => value.to_string(),
    }
}

fn swap_path(service: &str) -> String {
    format!("/v1/services/{service}/swap")
}

/// Sends the question and waits for the answer, as long as the process shows signs
/// of life. Must run inside a Tokio runtime.
pub async fn ask<R: DeserializeOwned>(socket: &Path, question: Question) -> Result<R, ClientError> {
    if !question.slow {
        return exchange(socket, question).await;
    }
    tokio::select! {
        biased;
        answer = send(socket, question) => answer,
        error = until_silent(socket) => Err(error),
    }
}

/// Waits until the process no longer shows signs of life.
async fn until_silent(socket: &Path) -> ClientError {
    loop {
        tokio::time::sleep(PATIENCE).await;
        if let Err(error) = exchange::<StatusReply>(socket, Question::status()).await {
            return error;
        }
    }
}

async fn exchange<R: DeserializeOwned>(
    socket: &Path,
    question: Question,
) -> Result<R, ClientError> {
    let answer = tokio::time::timeout(PATIENCE, send(socket, question)).await;
    answer.unwrap_or_else(|_| Err(ClientError::Silent(socket.to_owned())))
}

async fn send<R: DeserializeOwned>(socket: &Path, question: Question) -> Result<R, ClientError> {
    let foreign = |reason: String| ClientError::Foreign(socket.to_owned(), reason);
    let stream = connect(socket).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| foreign(error.to_string()))?;
    let talking = tokio::spawn(connection);
    let mut request = Request::builder()
        .method(question.method)
        .uri(question.path)
        .header(HOST, "sockserve");
    if let Some(content_type) = question.content_type {
        request = request.header(CONTENT_TYPE, content_type);
    }
    let request = request.body(Full::new(question.body))?;
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| {
        if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
            ClientError::Broken(socket.to_owned())
        } else {
            foreign(error.to_string())
        }
    })?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER);
    let body = body.collect().await;
    let body = body.map_err(|error| foreign(error.to_string()))?.to_bytes();
    drop(sender);
    // The answer is complete. How the connection ends does not matter.
    talking.abort();
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|error| foreign(error.to_string()));
    }
    match serde_json::from_slice::<ErrorReply>(&body) {
        Ok(reply) => Err(ClientError::Refused(reply.error)),
        Err(_) => Err(foreign(format!("HTTP status {status}"))),
    }
}

/// Connects, and checks that the process belongs to a user that this user can
/// trust.
async fn connect(path: &Path) -> Result<UnixStream, ClientError> {
    if address(path).is_err_and(|error| Errno::from_io_error(&error) == Some(Errno::NAMETOOLONG)) {
        return Err(ClientError::Length(path.to_owned()));
    }
    let connected = tokio::time::timeout(PATIENCE, async {
        loop {
            match UnixStream::connect(path).await {
                // The backlog is full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(PAUSE).await;
                }
                result => return result.map_err(|error| connect_error(path, error)),
            }
        }
    });
    let stream = connected
        .await
        .unwrap_or_else(|_| Err(ClientError::Silent(path.to_owned())))?;
    let peer = stream
        .peer_cred()
        .map_err(|error| ClientError::Unreachable(path.to_owned(), error))?;
    if is_trusted(peer.uid(), path) {
        Ok(stream)
    } else {
        Err(ClientError::Stranger(path.to_owned(), peer.uid()))
    }
}

fn connect_error(path: &Path, error: io::Error) -> ClientError {
    let path_buf = path.to_owned();
    let is_file = || {
        let found = std::fs::metadata(path);
        found.is_ok_and(|found| !found.file_type().is_socket())
    };
    match Errno::from_io_error(&error) {
        Some(Errno::CONNREFUSED) if is_file() => ClientError::NotASocket(path_buf),
        Some(Errno::CONNREFUSED | Errno::NOENT) => ClientError::Nobody(path_buf, error),
        Some(Errno::ACCESS | Errno::PERM) => ClientError::Denied(path_buf, error),
        Some(Errno::PROTOTYPE) => ClientError::Foreign(
            path_buf,
            "it is another program's socket, of another kind".to_owned(),
        ),
        _ => ClientError::Unreachable(path_buf, error),
    }
}

/// Whether to believe a process of the user `uid`: it is this user, or root. Root
/// also believes a user about a socket in that user's own directory.
fn is_trusted(uid: u32, path: &Path) -> bool {
    let own = rustix::process::geteuid().as_raw();
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    uid == own
        || uid == 0
        || (own == 0 && std::fs::metadata(directory).is_ok_and(|found| found.uid() == uid))
}
