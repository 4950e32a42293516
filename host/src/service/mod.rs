//! A service: listeners, a handler, a dispatch, and its life from the first
//! accept to the last close.
//!
//! [`Service::start`] binds first and starts a thread of its own, which runs the
//! accept loops and, but under `threaded`, the guests. The handler has versions,
//! of which one is current: each new connection goes to it (see `swap`).
//!
//! A service ends in two steps: draining stops accepting and lets open
//! connections finish; aborting closes what is still open.
//!
//! | file | |
//! | --- | --- |
//! | `run` | the service's thread, from its start to its end |
//! | `connections` | connections: taken on, counted, reported, closed |
//! | `counts` | what becomes of connections, in numbers |
//! | `version` | one version of the handler, to the end of its last connection |
//! | `intake` | how connections come to a shared instance |
//! | `hand_over` | a connection on its way to another version |
//! | `swap` | another version in its place |
//! | `rollback` | the version before again, on request or by itself |
//! | `probe` | a connection to try a version with |
//! | `status` | what a service says of itself |

pub(crate) mod probe;
pub(crate) mod rollback;
mod run;
pub(crate) mod status;
pub(crate) mod swap;
#[cfg(test)]
mod tests;
mod threads;

use crate::connection::Connection;
use crate::connection::traffic::Traffic;
use crate::contract::{Contract, Dispatch};
use crate::descriptors;
use crate::guest::handler::{Handler, HandlerError};
use crate::guest::stdio::Scope;
use crate::limits::Limits;
use crate::listen::address::{self, AddressError, BindError, ListenAddress};
use crate::service::rollback::RollbackPolicy;
use crate::service::swap::History;
use crate::version::{Origin, Version};
use arc_swap::ArcSwap;
use rustix::io::Errno;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

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
    #[error("cannot listen on {address}{}: {error}; {}", which(.address, .at), advice(.error))]
    Bind {
        /// The address as given.
        address: ListenAddress,
        /// Which of its addresses.
        at: SocketAddr,
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

/// The address that a name has stood for.
fn which(address: &ListenAddress, at: &SocketAddr) -> String {
    if address.is_name() {
        format!(" at {}", at.ip())
    } else {
        String::new()
    }
}

fn advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => return "raise the limit on open files (ulimit -n)",
        Some(Errno::NFILE) => return "the machine has no more open files (fs.file-max)",
        Some(Errno::NOBUFS | Errno::NOMEM) => return "the machine is out of memory",
        Some(Errno::AFNOSUPPORT) => return "this machine has no IPv6; choose an IPv4 address",
        _ => {}
    }
    match error.kind() {
        io::ErrorKind::AddrInUse => "choose another port, or port 0 for any free one",
        io::ErrorKind::PermissionDenied => "ports below 1024 need privileges; choose a higher one",
        io::ErrorKind::AddrNotAvailable => {
            "the address is not this machine's; 0.0.0.0 or [::] is any"
        }
        // ENODEV has no kind of its own.
        _ if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
            "the zone is no interface of this machine"
        }
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
    /// Waits until `sender` has come to `phase`.
    pub(crate) async fn reached(sender: &watch::Sender<Self>, phase: Self) {
        // Whoever waits has the sender, so the channel cannot be closed.
        let _ = sender
            .subscribe()
            .wait_for(|current| *current >= phase)
            .await;
    }

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
    /// Notified when a connection has failed.
    pub(crate) failed: Arc<Notify>,
    /// Why the service cannot go on, once it cannot.
    broken: watch::Sender<Option<String>>,
    /// Where the service's tasks run. Set before anybody can ask for one.
    runtime: OnceLock<Handle>,
    permits: Arc<Semaphore>,
    /// Bytes for the states that isolated instances have given.
    pub(crate) states: Arc<Semaphore>,
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
        let backlog = handler.limits().backlog;
        let mut listeners = Vec::with_capacity(options.listen.len());
        let mut local_addresses: Vec<SocketAddr> = Vec::with_capacity(options.listen.len());
        for address in &options.listen {
            let addresses = address.resolve()?;
            if let Some(twice) = addresses.iter().find(|it| local_addresses.contains(it)) {
                return Err(AddressError::Twice(address.clone(), *twice).into());
            }
            let bound = address::bind_all(&addresses, backlog);
            let bound = bound.map_err(|BindError { at, error }| StartError::Bind {
                address: address.clone(),
                at,
                error,
            })?;
            for (listener, local) in bound {
                listeners.push(listener);
                local_addresses.push(local);
            }
        }
        let ServiceOptions { name, rollback, .. } = options;
        let shared = Shared::new(&name, rollback, local_addresses, Arc::new(handler));
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

    /// The addresses it listens on, in the order they were given; a name may
    /// stand for several.
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

impl Shared {
    fn new(
        name: &str,
        rollback: RollbackPolicy,
        local_addresses: Vec<SocketAddr>,
        handler: Arc<Handler>,
    ) -> Arc<Self> {
        let mut limits = handler.limits().clone();
        let (asked, opens) = (limits.max_connections, handler.opens_for_each_connection());
        limits.max_connections = descriptors::permits(name, asked, opens);
        let failed = Arc::<Notify>::default();
        let version = Version::new(1, handler, Origin::Start, Arc::clone(&failed));
        Arc::new(Self {
            name: name.into(),
            dispatch: version.handler.dispatch(),
            rollback,
            local_addresses,
            current: ArcSwap::new(version),
            history: Mutex::default(),
            swapping: Arc::default(),
            traffic: Arc::default(),
            failed,
            broken: watch::Sender::new(None),
            runtime: OnceLock::new(),
            permits: Arc::new(Semaphore::new(limits.max_connections as usize)),
            states: Arc::new(Semaphore::new(offer::STATES)),
            phase: watch::Sender::new(Phase::Serving),
            accepted: AtomicU64::new(0),
            limits,
        })
    }

    /// Calls `make` where it can put things into the service's poller.
    pub(crate) fn in_runtime<R>(&self, make: impl FnOnce() -> R) -> io::Result<R> {
        let runtime = self.runtime.get();
        let runtime = runtime.ok_or(io::ErrorKind::NotConnected)?;
        let _entered = runtime.enter();
        Ok(make())
    }

    /// The service's threads, from its start on.
    pub(crate) fn runtime(&self) -> Option<&Handle> {
        self.runtime.get()
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
        Phase::reached(&self.phase, phase).await;
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
        // Under the lock, so that no version becomes current after this.
        let _history = self.history();
        Phase::advance(&self.phase, phase);
    }

    /// Ends the service, because it cannot go on.
    pub(crate) fn break_off(&self, reason: String) {
        self.broken.send_replace(Some(reason));
        self.enter(Phase::Aborting);
    }
}
