//! The server of the control plane.
//!
//! Clients cannot hold it up: connections have a largest number and time limits,
//! and some descriptors are reserved for them (`spares`).

use crate::RollbackOptions;
use crate::component::reading::MAX_BYTES;
use crate::connection::register::register;
use crate::control::http::{self, Body, Kind};
use crate::control::request::{Upload, is_component, read_kill, read_rollback, read_swap};
use crate::control::settings::swap_options;
use crate::control::spares::Spares;
use crate::control::{
    ConnectionsReply, DrainReply, ErrorReply, KillReply, Reload, ReloadError, RollbackRequest,
    StateReply, StatusReply, health, is_per_process, metrics,
};
use crate::registry::{KillError, Registry};
use crate::service::ServiceHandle;
use crate::service::swap::{SwapError, Swapped};
use crate::socket_file::{Access, SocketFile, SocketFileError};
use crate::text;
use hyper::{Method, Request, StatusCode};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{SocketFlags, SocketType};
use serde::Serialize;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// The most connections at once. Further clients wait.
const MAX_CONNECTIONS: usize = 32;
/// How many clients may wait to be accepted.
const BACKLOG: i32 = 128;
/// Only the user who serves may open the socket.
const ACCESS: Access = Access {
    mode: Some(0o600),
    group: None,
    owner: None,
};
/// How long a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(5);
/// How long a client may take to read the answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// The pause after an accept that failed.
const PAUSE: Duration = Duration::from_millis(100);
/// Failures with less time than this between them are logged once.
const EPISODE: Duration = Duration::from_secs(60);

/// A control socket that takes requests. Dropping it removes the socket.
#[must_use = "a control server that is dropped removes its socket"]
pub struct ControlServer {
    listener: Arc<OwnedFd>,
    /// Declared after the listener, so that the file outlives it.
    file: SocketFile,
    spares: Arc<Spares>,
    /// One permit per connection.
    places: Arc<Semaphore>,
}

impl fmt::Debug for ControlServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlServer").finish_non_exhaustive()
    }
}

impl ControlServer {
    /// Makes the socket, which only this user may open. Replaces a socket that a
    /// killed process left behind.
    ///
    /// Waits for at most a second, and only while another process is making the
    /// same socket.
    pub fn bind(path: &Path) -> Result<Self, SocketFileError> {
        Self::bind_for(path, None)
    }

    /// Does the same for the user, and the group, that the process is about to become.
    pub(crate) fn bind_for(
        path: &Path,
        owner: Option<(u32, u32)>,
    ) -> Result<Self, SocketFileError> {
        let access = Access { owner, ..ACCESS };
        let system = |error| SocketFileError::System(path.to_owned(), error);
        let (listener, file) = SocketFile::bind(path, SocketType::STREAM, access, Some(BACKLOG))?;
        let listener = Arc::new(listener);
        let spares = Spares::of(&listener).map_err(system)?;
        Ok(Self {
            listener,
            file,
            spares: Arc::new(spares),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }

    /// The socket's file.
    pub(crate) fn file(&self) -> &SocketFile {
        &self.file
    }

    /// Waits until the requests that have come are answered.
    pub async fn answered(&self) {
        // The semaphore is never closed.
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        let _ = self.places.acquire_many(all).await;
    }

    /// Answers requests about the services of `registry` until the future is dropped.
    /// Without `reload` there is no configuration to read again.
    ///
    /// Fails if the system does not let it wait for clients.
    pub async fn run(
        &self,
        registry: Arc<Registry>,
        reload: Option<Arc<dyn Reload>>,
    ) -> io::Result<Infallible> {
        let context = Arc::new(Context {
            registry,
            reload,
            uploads: Upload::places(),
        });
        let listener = register(Arc::clone(&self.listener), Interest::READABLE)?;
        let mut trouble = Trouble::default();
        loop {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let place = place.map_err(io::Error::other)?;
            let stream = self.accept(&listener, &mut trouble).await?;
            let (spares, context) = (Arc::clone(&self.spares), Arc::clone(&context));
            tokio::spawn(async move {
                let used = match UnixStream::from_std(stream.into()) {
                    Ok(stream) => serve_connection(stream, context).await,
                    Err(_) => None,
                };
                if let Some(used) = used {
                    spares.take_back(used);
                }
                drop(place);
            });
        }
    }

    async fn accept(
        &self,
        listener: &AsyncFd<Arc<OwnedFd>>,
        trouble: &mut Trouble,
    ) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        loop {
            let mut ready = listener.readable().await?;
            match rustix::net::accept_with(listener.get_ref(), flags) {
                Ok(stream) => return Ok(stream),
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::MFILE | Errno::NFILE) if self.spares.release() => {}
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    trouble.tell(error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Failed accepts. Failures that come together are logged once.
#[derive(Default)]
struct Trouble(Option<Instant>);

impl Trouble {
    fn tell(&mut self, error: Errno) {
        let now = Instant::now();
        let before = self.0.replace(now);
        if before.is_some_and(|before| now.duration_since(before) < EPISODE) {
            return;
        }
        let advice = match error {
            Errno::MFILE => "raise the limit on open files (ulimit -n), or lower --max-connections",
            Errno::NFILE => "the machine has no more open files (fs.file-max)",
            _ => "the machine is out of memory",
        };
        tracing::warn!(%error, "the control socket cannot accept, it tries again; {advice}");
    }
}

/// What the answers are made from.
struct Context {
    registry: Arc<Registry>,
    reload: Option<Arc<dyn Reload>>,
    uploads: Arc<Semaphore>,
}

/// Answers the request of one connection. Returns the connection's descriptor.
async fn serve_connection(mut stream: UnixStream, context: Arc<Context>) -> Option<OwnedFd> {
    let uid = match socket_peercred(&stream).map(|peer| peer.uid) {
        Ok(uid) if uid == rustix::process::geteuid() || uid.is_root() => uid.as_raw(),
        _ => {
            tracing::warn!("the control socket refused another user");
            return Some(stream.into_std().ok()?.into());
        }
    };
    let mut method = Method::GET;
    let answer = match http::request(&mut stream, HEAD_TIME).await {
        Ok(Some(request)) => {
            method = request.method().clone();
            Some(respond(&context, uid, request).await)
        }
        Ok(None) => None,
        Err(error) => Some(Err(Refused(error.status(), error.to_string()))),
    };
    if let Some(answer) = answer {
        let (status, kind, body) = encode(answer);
        let sending = http::answer(&mut stream, &method, status, kind, &body, MAX_BYTES as u64);
        // If a client hangs up or does not read the answer, no other client is
        // affected.
        let _ = tokio::time::timeout(ANSWER_TIME, sending).await;
    }
    Some(stream.into_std().ok()?.into())
}

/// What a request is answered with.
enum Answer {
    Json(Vec<u8>),
    /// The metrics.
    Figures(String),
    /// Whether the process is well, with the status that says so.
    Health(StatusCode, Vec<u8>),
}

/// A refusal: the status, and a message of one line.
pub(super) struct Refused(pub(super) StatusCode, pub(super) String);

impl From<SwapError> for Refused {
    fn from(error: SwapError) -> Self {
        let status = match error {
            SwapError::Busy(_)
            | SwapError::Ending(_)
            | SwapError::NoPrevious(_)
            | SwapError::Canary { .. }
            | SwapError::NoCanary(_)
            | SwapError::Condemned { .. }
            | SwapError::NotThere(..) => StatusCode::CONFLICT,
            SwapError::Load(_)
            | SwapError::Handler(_)
            | SwapError::Transport { .. }
            | SwapError::HandOver(..)
            | SwapError::State { .. }
            | SwapError::Unsaved { .. }
            | SwapError::Gone { .. }
            | SwapError::NoVariable(_)
            | SwapError::Dispatch(_)
            | SwapError::Admission(_)
            | SwapError::Unshared { .. }
            | SwapError::Probe(_) => StatusCode::UNPROCESSABLE_ENTITY,
            SwapError::Nothing => StatusCode::BAD_REQUEST,
            SwapError::Host(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl From<ReloadError> for Refused {
    fn from(error: ReloadError) -> Self {
        let status = match error {
            ReloadError::NoFile | ReloadError::Busy | ReloadError::Ending => StatusCode::CONFLICT,
            ReloadError::Refused(_) | ReloadError::Restart(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ReloadError::Host(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

impl From<KillError> for Refused {
    fn from(error: KillError) -> Self {
        let status = match error {
            KillError::Nothing | KillError::Peer(..) => StatusCode::BAD_REQUEST,
            KillError::NoService(..) | KillError::NotOpen(_) => StatusCode::NOT_FOUND,
        };
        Self(status, error.to_string())
    }
}

/// Returns the status and the body of an answer.
fn encode(answer: Result<Answer, Refused>) -> (StatusCode, Kind, Vec<u8>) {
    match answer {
        Ok(Answer::Json(mut body)) => {
            // For a reader at a terminal.
            body.push(b'\n');
            (StatusCode::OK, Kind::Json, body)
        }
        Ok(Answer::Figures(text)) => (StatusCode::OK, Kind::Text, text.into_bytes()),
        Ok(Answer::Health(status, line)) => (status, Kind::Plain, line),
        Err(Refused(status, error)) => (status, Kind::Json, encode_error(&error)),
    }
}

/// The body of a refusal.
pub(super) fn encode_error(error: &str) -> Vec<u8> {
    let error = text::escape(error).into_owned();
    let mut body = serde_json::to_vec(&ErrorReply { error }).unwrap_or_default();
    body.push(b'\n');
    body
}

/// Does what a request of the user `uid` asks for. Returns the answer's JSON.
async fn respond(
    context: &Context,
    uid: u32,
    request: Request<Body<'_>>,
) -> Result<Answer, Refused> {
    let registry = &context.registry;
    let path = request.uri().path().to_owned();
    let waits = request.uri().query() == Some("wait");
    let words: Vec<&str> = path.trim_matches('/').split('/').collect();
    let method = match words.as_slice() {
        ["metrics" | "healthz" | "readyz"]
        | ["v1", "status" | "connections" | "configuration"]
        | ["v1", "services", _]
        | ["v1", "services", _, "connections"] => Method::GET,
        ["v1", "shutdown" | "kill" | "reload"]
        | [
            "v1",
            "services",
            _,
            "swap" | "promote" | "rollback" | "suspend" | "resume" | "drain",
        ] => Method::POST,
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
            let service = &find(registry, name)?;
            match action {
                ["swap"] => {
                    let swapped = swap(context, service, request).await;
                    json(&noted(swapped, service, uid, "swap")?)
                }
                ["promote"] => {
                    let promoted = service.promote().await.map_err(Refused::from);
                    json(&noted(promoted, service, uid, "promotion")?)
                }
                ["rollback"] => {
                    let rolled_back = rollback(service, request).await;
                    json(&noted(rolled_back, service, uid, "rollback")?)
                }
                ["connections"] => json(&ConnectionsReply {
                    connections: registry.connections_of(name).unwrap_or_default(),
                }),
                ["suspend"] => {
                    service.suspend();
                    json(&state(service, uid))
                }
                ["resume"] => {
                    service.resume();
                    json(&state(service, uid))
                }
                ["drain"] => json(&drain(std::slice::from_ref(service), waits, uid).await),
                _ => json(&service.status()),
            }
        }
        [_, "connections"] => json(&ConnectionsReply {
            connections: registry.connections(),
        }),
        ["metrics"] => metrics::figures(registry)
            .map(Answer::Figures)
            .map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        [what @ ("healthz" | "readyz")] => {
            let (status, line) = health(registry, *what == "readyz");
            Ok(Answer::Health(status, line))
        }
        [_, "configuration"] => {
            let reload = reloads(context)?;
            json(&reload.configuration().await)
        }
        [_, "reload"] => {
            tracing::info!(uid, "reload requested");
            json(&reloads(context)?.reload().await?)
        }
        [_, "kill"] => {
            let killed = registry.kill(&read_kill(request).await?)?;
            tracing::info!(uid, connections = ?killed, "kill requested");
            json(&KillReply { killed })
        }
        [_, "shutdown"] => json(&drain(&registry.all(), waits, uid).await),
        _ => json(&StatusReply {
            services: registry.all().iter().map(ServiceHandle::status).collect(),
        }),
    }
}

fn find(registry: &Registry, name: &str) -> Result<ServiceHandle, Refused> {
    registry.find(name).ok_or_else(|| {
        let message = format!("there is no service {name}; there is {}", registry.names());
        Refused(StatusCode::NOT_FOUND, message)
    })
}

/// What reads the configuration again.
fn reloads(context: &Context) -> Result<&dyn Reload, Refused> {
    match &context.reload {
        Some(reload) => Ok(&**reload),
        None => Err(ReloadError::NoFile.into()),
    }
}

/// What a service came to by a request of the user `uid`.
fn state(service: &ServiceHandle, uid: u32) -> StateReply {
    let state = service.status().state;
    let service = service.name().to_owned();
    tracing::info!(service, uid, "{state:?} by request");
    StateReply { service, state }
}

/// Logs a refusal, with the user who has asked.
fn noted<T>(
    result: Result<T, Refused>,
    service: &ServiceHandle,
    uid: u32,
    what: &str,
) -> Result<T, Refused> {
    if let Err(Refused(_, reason)) = &result {
        tracing::warn!(service = service.name(), uid, "{what} refused: {reason}");
    }
    result
}

async fn drain(services: &[ServiceHandle], waits: bool, uid: u32) -> DrainReply {
    for service in services {
        tracing::info!(service = service.name(), uid, "drain requested");
        service.drain();
    }
    if waits {
        for service in services {
            service.over().await;
        }
    }
    let names = services.iter().map(|service| service.name().to_owned());
    DrainReply {
        draining: names.collect(),
        ended: waits,
    }
}

async fn rollback(service: &ServiceHandle, request: Request<Body<'_>>) -> Result<Swapped, Refused> {
    let RollbackRequest { to, discard_state } = read_rollback(request).await?;
    let options = RollbackOptions { to, discard_state };
    Ok(service.rollback(options).await?)
}

async fn swap(
    context: &Context,
    service: &ServiceHandle,
    request: Request<Body<'_>>,
) -> Result<Swapped, Refused> {
    if !is_component(&request) {
        let request = read_swap(request).await?;
        let options = swap_options(&request)?;
        let Some(component) = &request.component else {
            return Ok(service.swap_settings(options).await?);
        };
        if is_per_process(Path::new(component)) {
            let message = format!(
                "{component} is another file here than where you are; send the component itself, \
                 as application/wasm"
            );
            return Err(Refused(StatusCode::BAD_REQUEST, message));
        }
        return Ok(service.swap(component, options).await?);
    }
    let upload = Upload::receive(request, &context.uploads).await?;
    let options = swap_options(&upload.request)?;
    let source = upload.request.component.as_deref().unwrap_or_default();
    let component = crate::Component::from_bytes(source, upload.bytes).map_err(|error| {
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        Refused(status, error.to_string())
    })?;
    Ok(service.swap_component(source, component, options).await?)
}

fn json(reply: &impl Serialize) -> Result<Answer, Refused> {
    serde_json::to_vec(reply)
        .map(Answer::Json)
        .map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}
