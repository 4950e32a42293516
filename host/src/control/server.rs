//! The side of the control plane that has the services.

use crate::control::{DrainReply, ErrorReply, RollbackRequest, StatusReply, SwapRequest};
use crate::service::Remote;
use crate::service::swap::{SwapError, SwapOptions};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::fs::Mode;
use rustix::net::sockopt::socket_peercred;
use serde::Serialize;
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};

/// The largest body of a request, in bytes.
const MAX_BODY: usize = 64 << 10;

/// A control socket that takes requests. Dropping it removes the socket.
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
}

/// Why a control socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A running process answers on it.
    #[error("a running sockserve has the control socket {0}; choose another path")]
    InUse(PathBuf),
    /// Something else is in the way.
    #[error("{0} is there and is no socket; choose another path for the control socket")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot make the control socket {0}: {1}")]
    System(PathBuf, io::Error),
}

impl ControlServer {
    /// Makes the socket, and replaces one that a killed process left.
    ///
    /// It must be called inside a runtime, and before guests run: it changes the
    /// process's umask for a moment.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let system = |error| ControlError::System(path.to_owned(), error);
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(ControlError::NotASocket(path.to_owned()));
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(ControlError::InUse(path.to_owned()));
            }
            Ok(_) => std::fs::remove_file(path).map_err(system)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system(error)),
        }
        // The mode has to be right from the first moment on.
        let before = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = listener.map_err(system)?;
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(path, owner_only).map_err(system)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers requests about `services`, until it is dropped.
    pub async fn run(&self, services: Vec<Remote>) -> Infallible {
        let services: Arc<[Remote]> = services.into();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => serve(stream, Arc::clone(&services)),
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot accept");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }
}

fn serve(stream: UnixStream, services: Arc<[Remote]>) {
    let peer = socket_peercred(&stream).map(|peer| peer.uid);
    if !peer.is_ok_and(|uid| uid == rustix::process::geteuid() || uid.is_root()) {
        tracing::warn!("the control socket refused another user");
        return;
    }
    tokio::spawn(async move {
        let service = service_fn(move |request| {
            let services = Arc::clone(&services);
            async move { Ok::<_, Infallible>(answer(&services, request).await) }
        });
        // A client that hangs up in the middle concerns nobody else.
        let _ = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .await;
    });
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A refusal.
struct Refused(StatusCode, String);

impl From<SwapError> for Refused {
    fn from(error: SwapError) -> Self {
        let status = match error {
            SwapError::Busy(_)
            | SwapError::Ending(_)
            | SwapError::NoPrevious(_)
            | SwapError::Condemned { .. }
            | SwapError::NotThere(..) => StatusCode::CONFLICT,
            SwapError::Load(_)
            | SwapError::Handler(_)
            | SwapError::HandOver(..)
            | SwapError::Probe(_) => StatusCode::UNPROCESSABLE_ENTITY,
            SwapError::Host(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

async fn answer(services: &[Remote], request: Request<Incoming>) -> Response<Full<Bytes>> {
    match act(services, request).await {
        Ok(body) => respond(StatusCode::OK, body),
        Err(Refused(status, error)) => {
            let body = serde_json::to_vec(&ErrorReply { error }).unwrap_or_default();
            respond(status, body)
        }
    }
}

fn respond(status: StatusCode, mut body: Vec<u8>) -> Response<Full<Bytes>> {
    // For whoever reads it in a terminal.
    body.push(b'\n');
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        hyper::header::CONTENT_TYPE,
        hyper::header::HeaderValue::from_static("application/json"),
    );
    response
}

async fn act(services: &[Remote], request: Request<Incoming>) -> Result<Vec<u8>, Refused> {
    let path = request.uri().path().to_owned();
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let method = match words.as_slice() {
        ["v1", "status"] | ["v1", "services", _] => Method::GET,
        ["v1", "shutdown"] | ["v1", "services", _, "swap" | "rollback" | "drain"] => Method::POST,
        _ => {
            let message = format!("there is no {path}; GET /v1/status has what there is");
            return Err(Refused(StatusCode::NOT_FOUND, message));
        }
    };
    if request.method() != method {
        let message = format!("{path} takes {method}");
        return Err(Refused(StatusCode::METHOD_NOT_ALLOWED, message));
    }
    match words.as_slice() {
        [_, "services", name, action @ ..] => {
            let service = find(services, name)?;
            match action {
                ["swap"] => {
                    let (source, options) = swap_options(request).await?;
                    json(&service.swap(&source, options).await?)
                }
                ["rollback"] => {
                    let to = rollback_request(request).await?.to;
                    json(&service.rollback(to).await?)
                }
                ["drain"] => json(&drain([service])),
                _ => json(&service.status()),
            }
        }
        [_, "shutdown"] => json(&drain(services)),
        _ => json(&StatusReply {
            services: services.iter().map(Remote::status).collect(),
        }),
    }
}

fn find<'a>(services: &'a [Remote], name: &str) -> Result<&'a Remote, Refused> {
    let found = services.iter().find(|service| service.name() == name);
    found.ok_or_else(|| {
        let names: Vec<_> = services.iter().map(Remote::name).collect();
        let message = format!("there is no service {name}; there is {}", names.join(", "));
        Refused(StatusCode::NOT_FOUND, message)
    })
}

fn drain<'a>(services: impl IntoIterator<Item = &'a Remote>) -> DrainReply {
    let draining = services
        .into_iter()
        .map(|service| {
            service.drain();
            service.name().to_owned()
        })
        .collect();
    DrainReply { draining }
}

/// An empty body, and `null`, ask for nothing in particular.
async fn rollback_request(request: Request<Incoming>) -> Result<RollbackRequest, Refused> {
    let body = body(request).await?;
    if body.is_empty() {
        return Ok(RollbackRequest::default());
    }
    let request: Option<RollbackRequest> = serde_json::from_slice(&body).map_err(|error| {
        let message = format!("the body is no rollback: {error}; write {{}} or {{\"to\": 1}}");
        Refused(StatusCode::BAD_REQUEST, message)
    })?;
    Ok(request.unwrap_or_default())
}

async fn body(request: Request<Incoming>) -> Result<Bytes, Refused> {
    let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|error| {
        let message = format!("the body cannot be read: {error}");
        Refused(StatusCode::BAD_REQUEST, message)
    })?;
    Ok(body.to_bytes())
}

async fn swap_options(request: Request<Incoming>) -> Result<(String, SwapOptions), Refused> {
    let refused = |message: String| Refused(StatusCode::BAD_REQUEST, message);
    let body = body(request).await?;
    let request: SwapRequest = serde_json::from_slice(&body).map_err(|error| {
        refused(format!(
            "the body is no swap: {error}; write {{\"component\": \"/path/to.wasm\"}}"
        ))
    })?;
    let drain_timeout = match &request.drain_timeout {
        Some(text) => Some(
            humantime::parse_duration(text)
                .map_err(|error| refused(format!("drain-timeout: {error}; write 30s")))?,
        ),
        None => None,
    };
    let probe = match &request.probe {
        Some(text) => Some(text.parse().map_err(|error| refused(format!("{error}")))?),
        None => None,
    };
    let options = SwapOptions {
        old: request.old,
        drain_timeout,
        probe,
    };
    Ok((request.component, options))
}

fn json(reply: &impl Serialize) -> Result<Vec<u8>, Refused> {
    serde_json::to_vec(reply)
        .map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}
