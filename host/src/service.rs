//! A service: listeners, a handler, a dispatch, and its life from the first
//! accept to the last close.
//!
//! [`Service::start`] binds first and starts a thread of its own, which runs the
//! accept loops and, but under `threaded`, the guests. The handler has versions,
//! of which one is current: each new connection goes to it (see `swap`).
//!
//! A service ends in two steps: draining stops accepting and lets open
//! connections finish; aborting closes what is still open.

use crate::accept::{self, Incoming};
use crate::address::{AddressError, ListenAddress};
use crate::contract::{Contract, Dispatch};
use crate::dispatch;
use crate::guest::failure::{Failure, Fault};
use crate::guest::handler::{Handler, HandlerError};
use crate::guest::stdio::Scope;
use crate::limits::Limits;
use crate::sockets::connection::{Connection, ConnectionId};
use crate::sockets::traffic::Traffic;
use crate::swap::{History, RollbackPolicy};
use crate::version::{Origin, Version};
use arc_swap::ArcSwap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

/// A running service. Dropping it aborts it.
pub struct Service {
    pub(crate) shared: Arc<Shared>,
    ended: oneshot::Receiver<io::Result<()>>,
}

/// Asks a running service for things, from anywhere. Does not keep it running.
#[derive(Clone)]
pub struct Remote {
    pub(crate) shared: Arc<Shared>,
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

/// How far the end of a service, or of a version, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// No new connections; open ones finish.
    Draining,
    /// Open connections are closed.
    Aborting,
}

impl Phase {
    /// Goes on to `phase`; never back.
    pub(crate) fn advance(sender: &watch::Sender<Self>, phase: Self) {
        sender.send_if_modified(|current| {
            let later = phase > *current;
            if later {
                *current = phase;
            }
            later
        });
    }
}

/// What the parts of a service share.
pub(crate) struct Shared {
    pub(crate) name: Arc<str>,
    pub(crate) dispatch: Dispatch,
    pub(crate) limits: Limits,
    pub(crate) rollback: RollbackPolicy,
    pub(crate) local_addresses: Vec<SocketAddr>,
    pub(crate) current: ArcSwap<Version>,
    pub(crate) history: Mutex<History>,
    /// Held by the swap that is under way.
    pub(crate) swapping: Arc<tokio::sync::Mutex<()>>,
    pub(crate) traffic: Arc<Traffic>,
    /// Where the service's tasks run. Set before anybody can ask for one.
    runtime: OnceLock<Handle>,
    permits: Arc<Semaphore>,
    phase: watch::Sender<Phase>,
    accepted: AtomicU64,
}

/// What a service is made of, besides its handler.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// Its name, in the log and for commands.
    pub name: String,
    /// Where to listen; at least one address.
    pub listen: Vec<ListenAddress>,
    /// When to go back to the version before by itself.
    pub rollback: RollbackPolicy,
}

impl Service {
    /// Binds every address and starts serving `handler` on it.
    ///
    /// Returns when peers can connect. Nothing is left behind by a failure.
    pub fn start(options: ServiceOptions, handler: Handler) -> Result<Self, StartError> {
        let limits = handler.limits().clone();
        let mut listeners = Vec::with_capacity(options.listen.len());
        let mut local_addresses = Vec::with_capacity(options.listen.len());
        for address in &options.listen {
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
        let ServiceOptions { name, rollback, .. } = options;
        let shared = Arc::new(Shared {
            name: name.as_str().into(),
            dispatch: handler.dispatch(),
            rollback,
            local_addresses,
            current: ArcSwap::new(Version::new(1, Arc::new(handler), Origin::Start)),
            history: Mutex::default(),
            swapping: Arc::default(),
            traffic: Arc::default(),
            runtime: OnceLock::new(),
            permits: Arc::new(Semaphore::new(limits.max_connections as usize)),
            phase: watch::Sender::new(Phase::Serving),
            accepted: AtomicU64::new(0),
            limits,
        });
        let ended = Arc::clone(&shared).spawn(listeners)?;
        Ok(Self { shared, ended })
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The contract of its current handler.
    pub fn contract(&self) -> Contract {
        self.shared.current.load().handler.contract()
    }

    /// Its dispatch.
    pub fn dispatch(&self) -> Dispatch {
        self.shared.dispatch
    }

    /// The addresses it listens on, in the order they were given.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.shared.local_addresses
    }

    /// A way to ask it for things from elsewhere.
    pub fn remote(&self) -> Remote {
        Remote {
            shared: Arc::clone(&self.shared),
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
fn runtime(service: &Shared) -> io::Result<Runtime> {
    let mut builder = match service.dispatch {
        Dispatch::Threaded => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(service.limits.workers);
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
    /// Starts the service's thread, and returns when its handler has been tried.
    fn spawn(
        self: Arc<Self>,
        listeners: Vec<OwnedFd>,
    ) -> Result<oneshot::Receiver<io::Result<()>>, StartError> {
        let system = |error| StartError::System {
            name: self.name.to_string(),
            error,
        };
        // The caller may be inside a runtime of its own, so the service's is
        // made, used and dropped on the service's thread.
        let (starting, started) = std::sync::mpsc::channel();
        let (ending, ended) = oneshot::channel();
        let service = Arc::clone(&self);
        std::thread::Builder::new()
            .name(format!("serve-{}", self.name))
            .spawn(move || {
                let runtime = match runtime(&service) {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let name = service.name.to_string();
                        let _ = starting.send(Err(StartError::System { name, error }));
                        return;
                    }
                };
                let _ = service.runtime.set(runtime.handle().clone());
                let version = service.current.load_full();
                let probe = version.handler.probe(service.scope(None));
                let probed = runtime.block_on(probe).map_err(StartError::from);
                let probed = probed.and_then(|()| {
                    dispatch::start(&service, &version).map_err(|error| {
                        let name = service.name.to_string();
                        StartError::System { name, error }
                    })
                });
                let failed = probed.is_err();
                if starting.send(probed).is_err() || failed {
                    return;
                }
                let result = runtime.block_on(service.run(listeners));
                // A worker may be deep in a guest; it is not waited for.
                runtime.shutdown_background();
                let _ = ending.send(result);
            })
            .map_err(system)?;
        started
            .recv()
            .unwrap_or_else(|_| Err(system(io::ErrorKind::BrokenPipe.into())))?;
        Ok(ended)
    }

    /// Serves until the service is told to end or a listener fails, and until
    /// the last connection is closed.
    async fn run(self: Arc<Self>, listeners: Vec<OwnedFd>) -> io::Result<()> {
        let serving = async {
            let result = self.accept(listeners).await;
            if let Err(error) = &result {
                tracing::error!(service = &*self.name, %error, "the listener failed");
                self.enter(Phase::Aborting);
            }
            self.current.load().retire(None);
            let all = self.limits.max_connections;
            let _ = self.permits.acquire_many(all).await;
            result
        };
        let aborting = async {
            self.reached(Phase::Aborting).await;
            for version in self.versions() {
                version.abort();
            }
            std::future::pending::<std::convert::Infallible>().await
        };
        tokio::select! {
            result = serving => result,
            never = self.abort_after_drain_timeout() => match never {},
            never = aborting => match never {},
        }
    }

    async fn abort_after_drain_timeout(&self) -> std::convert::Infallible {
        self.reached(Phase::Draining).await;
        tokio::time::sleep(self.limits.drain_timeout).await;
        let connections = self.open();
        tracing::warn!(
            service = &*self.name,
            connections,
            "drain timeout, closing what is open"
        );
        self.enter(Phase::Aborting);
        std::future::pending().await
    }

    /// Accepts on every listener, and gives each connection to the version that
    /// is current then.
    async fn accept(self: &Arc<Self>, listeners: Vec<OwnedFd>) -> io::Result<()> {
        let turn = match self.dispatch {
            Dispatch::Sequential => Some(Arc::new(Semaphore::new(1))),
            Dispatch::Threaded | Dispatch::Poll => None,
        };
        let deliver = |incoming, turn| dispatch::deliver(self, self.admit(incoming), turn);
        let loops = listeners.into_iter().map(|listener| {
            let permits = Arc::clone(&self.permits);
            let phase = self.phase.subscribe();
            accept::run(listener, permits, turn.clone(), phase, &deliver)
        });
        futures_util::future::try_join_all(loops).await.map(drop)
    }

    /// Counts and logs a new connection.
    fn admit(&self, incoming: Incoming) -> Admitted {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.take_on(incoming)
    }

    /// Logs a new connection and gives it its number.
    pub(crate) fn take_on(&self, incoming: Incoming) -> Admitted {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id: ConnectionId = NEXT.fetch_add(1, Ordering::Relaxed);
        let Incoming {
            socket,
            peer,
            permit,
        } = incoming;
        tracing::debug!(service = &*self.name, connection = id, %peer, "connection opened");
        let traffic = Arc::clone(&self.traffic);
        Admitted {
            connection: Connection::new(id, socket, peer, traffic),
            permit,
        }
    }

    /// Counts and logs how the handler of a connection ended, and closes it.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        version: &Arc<Version>,
        admitted: Admitted,
        outcome: Result<(), Failure>,
    ) {
        let outcome = outcome.map_err(|failure| match failure {
            // The guest reports what the peer did to it.
            Failure::Guest(text) if admitted.connection.is_lost() => Failure::Peer(text),
            other => other,
        });
        if let Err(failure) = &outcome {
            self.report(version, &admitted.connection, failure);
        }
        self.count(version, &outcome);
        self.close(version, admitted).await;
    }

    fn report(&self, version: &Version, connection: &Connection, failure: &Failure) {
        let (service, version) = (&*self.name, version.number);
        let (id, peer, fault) = (connection.id(), connection.peer(), failure.fault());
        if fault == Fault::Peer {
            // Peers come and go; nobody has to look into it.
            tracing::info!(service, version, connection = id, %peer, %fault, "connection failed: {failure}");
        } else {
            tracing::warn!(service, version, connection = id, %peer, %fault, "connection failed: {failure}");
        }
    }

    fn count(self: &Arc<Self>, version: &Arc<Version>, outcome: &Result<(), Failure>) {
        version.count(outcome);
        if outcome.is_err() {
            self.consider_rollback(version);
        }
    }

    /// Closes a connection in order, and gives its permit back.
    async fn close(&self, version: &Version, admitted: Admitted) {
        let Admitted { connection, permit } = admitted;
        tokio::select! {
            biased;
            () = connection.close(self.limits.linger) => {}
            () = self.reached(Phase::Aborting) => connection.close(Duration::ZERO).await,
        }
        let peer = connection.peer();
        tracing::debug!(
            service = &*self.name,
            version = version.number,
            connection = connection.id(),
            %peer,
            bytes_in = connection.bytes_in(),
            bytes_out = connection.bytes_out(),
            "connection closed"
        );
        // The descriptor goes first, so that the permit stands for it.
        drop(connection);
        version.closed();
        drop(permit);
    }

    /// Closes a connection that no version takes any more.
    pub(crate) async fn close_unserved(&self, admitted: Admitted) {
        tracing::debug!(
            service = &*self.name,
            connection = admitted.connection.id(),
            "closed unserved, because the service is ending"
        );
        admitted.connection.close(Duration::ZERO).await;
    }

    /// Ends the connections of a shared instance that died.
    pub(crate) fn instance_died(
        self: &Arc<Self>,
        version: &Arc<Version>,
        connections: impl ExactSizeIterator<Item = Admitted>,
        failure: Failure,
    ) {
        let fault = failure.fault();
        tracing::warn!(
            service = &*self.name,
            version = version.number,
            connections = connections.len(),
            %fault,
            "instance died and its connections are closed: {failure}"
        );
        let outcome = Err(failure);
        for admitted in connections {
            self.count(version, &outcome);
            let (service, version) = (Arc::clone(self), Arc::clone(version));
            self.spawn_task(async move { service.close(&version, admitted).await });
        }
    }

    /// Calls `make` where it can put things into the service's poller.
    pub(crate) fn in_runtime<R>(&self, make: impl FnOnce() -> R) -> io::Result<R> {
        let runtime = self.runtime.get();
        let runtime = runtime.ok_or(io::ErrorKind::NotConnected)?;
        let _entered = runtime.enter();
        Ok(make())
    }

    /// Runs a task on the service's threads.
    pub(crate) fn spawn_task(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = self.runtime.get() {
            runtime.spawn(task);
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

    pub(crate) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections open, those being closed included. Not what the permits say:
    /// an accept that waits has one too.
    pub(crate) fn open(&self) -> u64 {
        self.versions().iter().map(|version| version.open()).sum()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        Phase::advance(&self.phase, phase);
    }
}

/// A connection that counts, with the permit that it holds until it is closed.
pub(crate) struct Admitted {
    pub(crate) connection: Arc<Connection>,
    pub(crate) permit: OwnedSemaphorePermit,
}
