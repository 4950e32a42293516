//! A service: listeners, a handler, a dispatch, and its life from the first
//! accept to the last close.
//!
//! [`Service::start`] binds first and starts a thread of its own, which runs the
//! accept loops and, but under `threaded`, the guests. A service ends in two
//! steps: draining stops accepting and lets open connections finish; aborting
//! closes what is still open.

use crate::accept::{self, Incoming};
use crate::address::{AddressError, ListenAddress};
use crate::contract::{Contract, Dispatch};
use crate::dispatch;
use crate::guest::failure::Failure;
use crate::guest::handler::{Handler, HandlerError};
use crate::guest::stdio::Scope;
use crate::sockets::attention::Attention;
use crate::sockets::connection::{Connection, ConnectionId};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// A running service. Dropping it aborts it.
pub struct Service {
    shared: Arc<Shared>,
    local_addresses: Vec<SocketAddr>,
    ended: oneshot::Receiver<io::Result<()>>,
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listen address cannot be resolved.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {error}; {}", advice(.error))]
    Bind {
        /// The address as given.
        address: ListenAddress,
        /// What the system said.
        error: io::Error,
    },
    /// The component cannot be started.
    #[error(transparent)]
    Handler(#[from] HandlerError),
    /// The system did not give a thread or a poller.
    #[error("cannot start the service {name}: {error}")]
    System {
        /// The service's name.
        name: String,
        /// What the system said.
        error: io::Error,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "choose another port, or port 0 for any free one",
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges; choose a higher one",
        io::ErrorKind::AddrNotAvailable => "the address is not this machine's; 0.0.0.0 is any",
        _ => "choose another address",
    }
}

/// How far a service's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// No new connections; open ones finish.
    Draining,
    /// Open connections are closed.
    Aborting,
}

/// What a service has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections whose handler ended well.
    pub handled: u64,
    /// Connections that ended with a failure, of the guest or of the host.
    pub failed: u64,
    /// Connections open, those being closed included.
    pub open: u64,
    /// Bytes read from peers on connections that have ended.
    pub bytes_in: u64,
    /// Bytes sent to peers on connections that have ended.
    pub bytes_out: u64,
}

/// What the parts of a service share.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) handler: Handler,
    permits: Arc<Semaphore>,
    phase: watch::Sender<Phase>,
    accepted: AtomicU64,
    handled: AtomicU64,
    failed: AtomicU64,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Service {
    /// Binds every address and starts serving `handler` on it.
    ///
    /// Returns when peers can connect. Nothing is left behind by a failure.
    pub fn start(
        name: &str,
        listen: &[ListenAddress],
        handler: Handler,
    ) -> Result<Self, StartError> {
        let limits = handler.limits().clone();
        let mut listeners = Vec::with_capacity(listen.len());
        let mut local_addresses = Vec::with_capacity(listen.len());
        for address in listen {
            let (listener, local) = accept::bind(address.resolve()?, limits.backlog)
                .and_then(|listener| {
                    let local = accept::local_address(&listener)?;
                    Ok((listener, local))
                })
                .map_err(|error| StartError::Bind {
                    address: address.clone(),
                    error,
                })?;
            listeners.push(listener);
            local_addresses.push(local);
        }
        let system = |error| StartError::System {
            name: name.to_owned(),
            error,
        };
        let shared = Arc::new(Shared::new(name, handler));
        // The caller may be inside a runtime of its own, so the service's is
        // made, used and dropped on the service's thread.
        let (starting, started) = std::sync::mpsc::channel();
        let (ending, ended) = oneshot::channel();
        let running = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(format!("serve-{name}"))
            .spawn(move || {
                let runtime = match runtime(&running) {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let name = running.name.to_string();
                        let _ = starting.send(Err(StartError::System { name, error }));
                        return;
                    }
                };
                let probe = running.handler.probe(&running.name, running.scope(None));
                let probed = runtime.block_on(probe).map_err(StartError::from);
                let failed = probed.is_err();
                if starting.send(probed).is_err() || failed {
                    return;
                }
                let result = runtime.block_on(running.run(listeners));
                // A worker may be deep in a guest; it is not waited for.
                runtime.shutdown_background();
                let _ = ending.send(result);
            })
            .map_err(system)?;
        started
            .recv()
            .unwrap_or_else(|_| Err(system(io::ErrorKind::BrokenPipe.into())))?;
        Ok(Self {
            shared,
            local_addresses,
            ended,
        })
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The contract of its handler.
    pub fn contract(&self) -> Contract {
        self.shared.handler.contract()
    }

    /// Its dispatch.
    pub fn dispatch(&self) -> Dispatch {
        self.shared.handler.dispatch()
    }

    /// The addresses it listens on, in the order they were given.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local_addresses
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        let shared = &self.shared;
        Counts {
            accepted: shared.accepted.load(Ordering::Relaxed),
            handled: shared.handled.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            open: shared.open() as u64,
            bytes_in: shared.bytes_in.load(Ordering::Relaxed),
            bytes_out: shared.bytes_out.load(Ordering::Relaxed),
        }
    }

    /// Stops accepting. The service ends when its last connection has, or at
    /// the drain timeout.
    pub fn drain(&self) {
        self.shared.enter(Phase::Draining);
    }

    /// Closes every connection and ends.
    pub fn abort(&self) {
        self.shared.enter(Phase::Aborting);
    }

    /// Waits until the service has ended, by being told to or by a failure of a
    /// listener.
    pub async fn ended(&mut self) -> io::Result<()> {
        match (&mut self.ended).await {
            Ok(result) => result,
            Err(_) => Err(io::Error::other("the service's thread is gone")),
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.abort();
    }
}

/// The threads of a service. `threaded` has its workers; the others run all on
/// the thread that calls `block_on`.
fn runtime(service: &Shared) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = match service.handler.dispatch() {
        Dispatch::Threaded => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(service.handler.limits().workers);
            builder
        }
        Dispatch::Sequential | Dispatch::Poll => tokio::runtime::Builder::new_current_thread(),
    };
    builder
        .enable_io()
        .enable_time()
        .thread_name(format!("worker-{}", service.name))
        .build()
}

impl Shared {
    fn new(name: &str, handler: Handler) -> Self {
        let max_connections = handler.limits().max_connections as usize;
        Self {
            name: name.into(),
            handler,
            permits: Arc::new(Semaphore::new(max_connections)),
            phase: watch::Sender::new(Phase::Serving),
            accepted: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// Serves until the service is told to end or a listener fails, and until
    /// the last connection is closed.
    async fn run(self: Arc<Self>, listeners: Vec<OwnedFd>) -> io::Result<()> {
        let serving = async {
            let result = dispatch::run(&self, listeners).await;
            if let Err(error) = &result {
                tracing::error!(service = &*self.name, %error, "the listener failed");
                self.enter(Phase::Aborting);
            }
            let all = self.handler.limits().max_connections;
            let _ = self.permits.acquire_many(all).await;
            result
        };
        tokio::select! {
            result = serving => result,
            never = self.abort_after_drain_timeout() => match never {},
        }
    }

    async fn abort_after_drain_timeout(&self) -> std::convert::Infallible {
        self.reached(Phase::Draining).await;
        tokio::time::sleep(self.handler.limits().drain_timeout).await;
        let connections = self.open();
        tracing::warn!(
            service = &*self.name,
            connections,
            "drain timeout, closing what is open"
        );
        self.enter(Phase::Aborting);
        std::future::pending().await
    }

    /// Accepts on every listener, and gives each connection to `deliver`; see
    /// [`accept::run`].
    pub(crate) async fn accept(
        &self,
        listeners: Vec<OwnedFd>,
        turn: Option<Arc<Semaphore>>,
        deliver: impl Fn(Incoming, Option<OwnedSemaphorePermit>),
    ) -> io::Result<()> {
        let loops = listeners.into_iter().map(|listener| {
            let permits = Arc::clone(&self.permits);
            accept::run(
                listener,
                permits,
                turn.clone(),
                self.phase.subscribe(),
                &deliver,
            )
        });
        futures_util::future::try_join_all(loops).await.map(drop)
    }

    /// Counts and logs a new connection.
    pub(crate) fn admit(&self, incoming: Incoming, attention: Option<Arc<Attention>>) -> Admitted {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id: ConnectionId = NEXT.fetch_add(1, Ordering::Relaxed);
        let Incoming {
            socket,
            peer,
            permit,
        } = incoming;
        self.accepted.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(service = &*self.name, connection = id, %peer, "connection opened");
        Admitted {
            connection: Connection::new(id, socket, peer, attention),
            permit,
        }
    }

    /// Counts and logs how the handler of a connection ended, and closes it.
    pub(crate) async fn finish(&self, admitted: Admitted, outcome: Result<(), Failure>) {
        match &outcome {
            Ok(()) => {
                self.handled.fetch_add(1, Ordering::Relaxed);
            }
            Err(failure) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let fault = failure.fault();
                let peer = admitted.connection.peer();
                tracing::warn!(
                    service = &*self.name,
                    connection = admitted.connection.id(),
                    %peer,
                    %fault,
                    "connection failed: {failure}"
                );
            }
        }
        self.close(admitted).await;
    }

    /// Closes a connection in order, and gives its permit back.
    async fn close(&self, admitted: Admitted) {
        let Admitted { connection, permit } = admitted;
        tokio::select! {
            biased;
            () = connection.close(self.handler.limits().linger) => {}
            () = self.reached(Phase::Aborting) => connection.close(Duration::ZERO).await,
        }
        let (bytes_in, bytes_out) = (connection.bytes_in(), connection.bytes_out());
        self.bytes_in.fetch_add(bytes_in, Ordering::Relaxed);
        self.bytes_out.fetch_add(bytes_out, Ordering::Relaxed);
        let peer = connection.peer();
        tracing::debug!(
            service = &*self.name,
            connection = connection.id(),
            %peer,
            bytes_in,
            bytes_out,
            "connection closed"
        );
        // The descriptor goes first, so that the permit stands for it.
        drop(connection);
        drop(permit);
    }

    /// Ends the connections of a shared instance that died.
    pub(crate) fn instance_died(
        self: &Arc<Self>,
        connections: impl ExactSizeIterator<Item = Admitted>,
        failure: &Failure,
    ) {
        let fault = failure.fault();
        tracing::warn!(
            service = &*self.name,
            connections = connections.len(),
            %fault,
            "instance died and its connections are closed: {failure}"
        );
        for admitted in connections {
            let service = Arc::clone(self);
            tokio::spawn(async move {
                service.failed.fetch_add(1, Ordering::Relaxed);
                service.close(admitted).await;
            });
        }
    }

    /// Under which name an instance's output is logged.
    pub(crate) fn scope(&self, connection: Option<&Connection>) -> Scope {
        Scope {
            service: Arc::clone(&self.name),
            connection: connection.map(|connection| (connection.id(), connection.peer())),
        }
    }

    /// Waits until the service has come to `phase`.
    pub(crate) async fn reached(&self, phase: Phase) {
        // The sender is ours, so the channel cannot be closed.
        let _ = self
            .phase
            .subscribe()
            .wait_for(|current| *current >= phase)
            .await;
    }

    fn open(&self) -> usize {
        let limit = self.handler.limits().max_connections as usize;
        limit.saturating_sub(self.permits.available_permits())
    }

    /// Goes on to `phase`; never back.
    fn enter(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
    }
}

/// A connection that counts, with the permit that it holds until it is closed.
pub(crate) struct Admitted {
    pub(crate) connection: Arc<Connection>,
    permit: OwnedSemaphorePermit,
}
