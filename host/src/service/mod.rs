//! A service: listeners, a handler, a dispatch, and its life from the first accept to
//! the last close.
//!
//! [`Service::start`] binds first, and then starts a thread for the service. That
//! thread runs the accept loops and, except under `threaded`, the guests. The handler
//! has versions, and one of them is current: each new connection goes to it (see
//! `swap`).
//!
//! A service ends in two steps. Draining stops accepting and lets open connections
//! finish. Aborting closes what is still open.
//!
//! | file | |
//! | --- | --- |
//! | `run` | the service's thread, from its start to its end |
//! | `threads` | whether the system gives a runtime its threads |
//! | `swap` | puts another version in the place of the current one |
//! | `rollback` | goes back to the version before, on request or by itself |
//! | `probe` | a connection that tries a version |
//! | `state_file` | where what an instance knows is kept from one start to the next |
//! | `status` | what a service reports of itself |

pub(crate) mod probe;
pub(crate) mod rollback;
mod run;
mod state_file;
pub(crate) mod status;
pub(crate) mod swap;
#[cfg(test)]
mod tests;
mod threads;

pub use state_file::StateFileError;

use crate::contract::{Contract, Dispatch};
use crate::descriptors;
use crate::guest::handler::Handler;
use crate::guest::handler_error::HandlerError;
use crate::lifecycle::Phase;
use crate::listen::address::ListenAddress;
use crate::listen::error::ListenError;
use crate::listen::given::Given;
use crate::listen::local::LocalAddress;
use crate::listen::opening::{self, ListenOptions, Opened};
use crate::service::rollback::RollbackPolicy;
use crate::service::run::Work;
use crate::service::state_file::StateFile;
use crate::version::versions::Versions;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Semaphore, oneshot};

/// A running service. Dropping it aborts it.
#[derive(Debug)]
#[must_use = "a service that is dropped aborts"]
pub struct Service {
    pub(crate) shared: Arc<Shared>,
    /// The service's result, when its thread is done.
    ended: oneshot::Receiver<io::Result<()>>,
}

/// Controls a running service from elsewhere: status, swap, rollback, drain. Does not
/// keep it running.
#[derive(Clone, Debug)]
pub struct ServiceHandle {
    pub(crate) shared: Arc<Shared>,
}

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The contract has no use for what comes there.
    #[error(
        "{address}: the contract {contract} serves {}; listen on {}",
        served(*.contract), fitting(*.contract)
    )]
    Transport {
        /// The address.
        address: LocalAddress,
        /// The component's contract.
        contract: Contract,
    },
    /// The component cannot be started.
    #[error(transparent)]
    Handler(#[from] HandlerError),
    /// The state of an earlier run cannot be taken.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    /// The handler has no state to keep.
    #[error(
        "{name}: --state-file needs one instance for all (--dispatch poll) of a component that \
         exports instance-state; leave it out"
    )]
    NoState {
        /// Where the component came from.
        name: String,
    },
    /// The system did not give a thread or a poller.
    #[error("cannot start the service {name}: {error}")]
    System {
        /// The service's name.
        name: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

/// What a contract serves.
pub(crate) fn served(contract: Contract) -> &'static str {
    if contract.takes_datagrams() {
        "datagrams"
    } else {
        "connections"
    }
}

/// Which listen addresses fit a contract.
fn fitting(contract: Contract) -> &'static str {
    if contract.takes_datagrams() {
        "udp://HOST:PORT or unix+dgram:///PATH"
    } else {
        "tcp://HOST:PORT or unix:///PATH"
    }
}

/// What the threads and tasks of a service share.
pub(crate) struct Shared {
    /// The versions of its handler, and their connections.
    pub(crate) versions: Arc<Versions>,
    pub(crate) dispatch: Dispatch,
    /// When a version is taken back by itself.
    pub(crate) rollback: RollbackPolicy,
    /// The addresses that the service listens on.
    pub(crate) local_addresses: Vec<LocalAddress>,
    /// Held by the swap that is under way.
    pub(crate) swapping: Arc<tokio::sync::Mutex<()>>,
    /// One permit per connection that may be open, as `--max-connections` and the limit
    /// on open files allow.
    permits: Arc<Semaphore>,
    /// How many connections were accepted.
    accepted: AtomicU64,
    /// Whether datagrams are taken whose answers could be answered without end.
    allow_loops: bool,
    /// Where what the instance knows is kept. `None` if it is not.
    state_file: Option<StateFile>,
    /// Whether it was kept, at the service's end. It is tried once.
    kept: tokio::sync::OnceCell<Result<(), Arc<StateFileError>>>,
}

/// What a service is made of, except its handler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceOptions {
    /// Its name, in the log and for commands.
    pub name: String,
    /// Where to listen; at least one address.
    pub listen: Vec<ListenAddress>,
    /// How to listen there. By default [`ListenOptions::default`].
    pub listening: ListenOptions,
    /// When to go back to the version before by itself. By default
    /// [`RollbackPolicy::default`].
    pub rollback: RollbackPolicy,
    /// Whether datagrams are taken from the ports of inetd's small services (7, 13, 17,
    /// 19, 37) and from the service's own sockets. Their answers could be answered without
    /// end (CVE-1999-0103). By default they are dropped.
    pub allow_loops: bool,
    /// A file that keeps what the instance knows from the service's end to its next start,
    /// if there is one instance for all and its component exports `instance-state`. By
    /// default it is not kept.
    pub state_file: Option<PathBuf>,
}

impl ServiceOptions {
    /// Makes the options of a service that listens on `listen`, with the defaults for
    /// all else.
    pub fn new(name: &str, listen: impl IntoIterator<Item = ListenAddress>) -> Self {
        Self {
            name: name.to_owned(),
            listen: listen.into_iter().collect(),
            listening: ListenOptions::default(),
            rollback: RollbackPolicy::default(),
            allow_loops: false,
            state_file: None,
        }
    }
}

impl Service {
    /// Binds every address and starts to serve `handler` there.
    ///
    /// Returns when peers can connect. After an error nothing is left behind.
    pub fn start(options: ServiceOptions, handler: Handler) -> Result<Self, StartError> {
        let backlog = handler.limits().backlog;
        let listeners = opening::open(&options.listen, backlog, options.listening)?;
        Self::start_opened(&options, handler, listeners)
    }

    /// Does the same with sockets that were opened before, when the process was another
    /// user. Nothing was taken from them.
    pub(crate) fn start_opened(
        options: &ServiceOptions,
        handler: Handler,
        listeners: Vec<Opened>,
    ) -> Result<Self, StartError> {
        Self::start_on(options, handler, Work::Sockets(listeners))
    }

    /// Starts to serve what the process was given. `None` if nobody is there to be served.
    pub(crate) fn start_given(
        options: &ServiceOptions,
        handler: Handler,
        given: Given,
    ) -> Result<Option<Self>, StartError> {
        let work = match given {
            Given::Gone => return Ok(None),
            Given::Socket(opened) => Work::Sockets(vec![opened]),
            Given::Connection {
                socket,
                peer,
                local,
            } => Work::Connection {
                socket,
                peer,
                local,
            },
        };
        Self::start_on(options, handler, work).map(Some)
    }

    fn start_on(
        options: &ServiceOptions,
        handler: Handler,
        work: Work,
    ) -> Result<Self, StartError> {
        if options.state_file.is_some() && !handler.keeps_state() {
            let name = handler.source().to_owned();
            return Err(StartError::NoState { name });
        }
        let contract = handler.contract();
        let local_addresses = work.local_addresses();
        let unfit = |address: &&LocalAddress| {
            address.transport().has_connections() == contract.takes_datagrams()
        };
        if let Some(unfit) = local_addresses.iter().find(unfit) {
            let address = unfit.clone();
            return Err(StartError::Transport { address, contract });
        }
        let shared = Shared::new(options, local_addresses, Arc::new(handler));
        let ended = Arc::clone(&shared).spawn(work)?;
        Ok(Self { shared, ended })
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// The contract of its current handler.
    pub fn contract(&self) -> Contract {
        self.shared.versions.current().handler.contract()
    }

    /// Its dispatch.
    pub fn dispatch(&self) -> Dispatch {
        self.shared.dispatch
    }

    /// The addresses that the service listens on, in the order that they were given; a
    /// name may stand for several.
    pub fn local_addresses(&self) -> &[LocalAddress] {
        &self.shared.local_addresses
    }

    /// A handle, which controls the service from elsewhere.
    pub fn handle(&self) -> ServiceHandle {
        ServiceHandle {
            shared: Arc::clone(&self.shared),
        }
    }

    /// Stops accepting. The service ends when its last connection ends, or at the drain
    /// timeout.
    pub fn drain(&self) {
        self.shared.versions.enter(Phase::Draining);
    }

    /// Closes every connection, and ends the service.
    pub fn abort(&self) {
        self.shared.versions.enter(Phase::Aborting);
    }

    /// Waits until the service has ended: because it drained or aborted, or because a
    /// listener failed or the host panicked too often, which are errors.
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

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("name", &self.name())
            .field("dispatch", &self.dispatch)
            .field("local_addresses", &self.local_addresses)
            .field("phase", &self.versions.phase())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Makes the shared part, with as many permits as descriptors allow.
    fn new(
        options: &ServiceOptions,
        local_addresses: Vec<LocalAddress>,
        handler: Arc<Handler>,
    ) -> Arc<Self> {
        let name = &options.name;
        let mut limits = handler.limits().clone();
        let (asked, opens) = (limits.max_connections, handler.instances_may_open());
        limits.max_connections = descriptors::permits(name, asked, opens);
        Arc::new(Self {
            dispatch: handler.dispatch(),
            rollback: options.rollback,
            allow_loops: options.allow_loops,
            state_file: options.state_file.clone().map(StateFile::new),
            kept: tokio::sync::OnceCell::new(),
            local_addresses,
            swapping: Arc::default(),
            permits: Arc::new(Semaphore::new(limits.max_connections as usize)),
            accepted: AtomicU64::new(0),
            versions: Versions::new(name, limits, handler),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.versions.service
    }

    /// How many connections were accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}
