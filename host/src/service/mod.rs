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
//! | `dispatching` | what the dispatch needs: a runtime, and turns |
//! | `idle` | whether it has had nothing to do for too long |
//! | `threads` | whether the system gives a runtime its threads |
//! | `swap` | puts another version in the place of the current one |
//! | `rollback` | goes back to the version before, on request or by itself |
//! | `listeners` | the sockets that it listens on |
//! | `permits` | how many connections may be open |
//! | `settings` | what a reload changes while it runs |
//! | `timeouts` | ends connections whose time is over |
//! | `probe` | a connection that tries a version |
//! | `state_file` | where what an instance knows is kept from one start to the next |
//! | `status` | what a service reports of itself |
//! | `rates` | how much it has had to do in the last minute |
//! | `connections` | what it reports of its connections, and their end by request |

pub(crate) mod connections;
mod dispatching;
mod idle;
mod listeners;
mod permits;
pub(crate) mod probe;
pub(crate) mod rates;
pub(crate) mod rollback;
mod run;
pub(crate) mod settings;
mod state_file;
pub(crate) mod status;
pub(crate) mod swap;
#[cfg(test)]
mod tests;
mod threads;
mod timeouts;

pub use state_file::StateFileError;

use crate::admission::Admission;
use crate::admission::global::GlobalLimits;
use crate::admission::policy::{AdmissionError, AdmissionPolicy, Served};
use crate::contract::{Contract, Dispatch};
use crate::descriptors::{self, Descriptors, Shares};
use crate::guest::handler::Handler;
use crate::guest::handler_error::HandlerError;
use crate::guest::memory::MemoryBook;
use crate::lifecycle::{Phase, Quota};
use crate::limits::Limits;
use crate::listen::address::ListenAddress;
use crate::listen::error::ListenError;
use crate::listen::given::Given;
use crate::listen::local::{LocalAddress, Transport};
use crate::listen::opening::{self, ListenOptions, Opened};
use crate::service::dispatching::turn_under;
use crate::service::listeners::Listeners;
use crate::service::permits::Permits;
use crate::service::rates::Samples;
use crate::service::rollback::RollbackPolicy;
use crate::service::run::{Incoming, Work};
use crate::service::state_file::StateFile;
use crate::service::swap::Trial;
use crate::version::access::AccessLog;
use crate::version::versions::{Previous, Versions};
use arc_swap::ArcSwap;
use std::fmt;
use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot, watch};

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
        address: String,
        /// The component's contract.
        contract: Contract,
    },
    /// The component cannot be started.
    #[error(transparent)]
    Handler(#[from] HandlerError),
    /// The policy has options that do nothing for this service.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
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

/// What admission has to do with.
fn served_at(addresses: &[LocalAddress], contract: Contract, max_connections: u32) -> Served {
    let is_unix =
        |it: &LocalAddress| matches!(it.transport(), Transport::Unix | Transport::UnixDatagram);
    Served {
        contract,
        max_connections,
        has_ip: !addresses.iter().all(is_unix),
        has_unix: addresses.iter().any(is_unix),
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
    /// The dispatch that it began with, which its runtime is for.
    first_dispatch: Dispatch,
    /// Under `sequential`, the turn of a connection.
    turns: watch::Sender<Option<Arc<Semaphore>>>,
    /// The limits that were asked for. Descriptors may allow fewer connections.
    asked: ArcSwap<Limits>,
    /// What becomes of the canary when it becomes current. `None` if there is none.
    trial: Mutex<Option<Trial>>,
    /// When a version is taken back by itself.
    rollback: ArcSwap<RollbackPolicy>,
    /// What the service listens on.
    listeners: Listeners,
    /// How a socket that is added is listened on.
    listening: ListenOptions,
    /// Held by the swap that is under way.
    pub(crate) swapping: Arc<tokio::sync::Mutex<()>>,
    /// One permit per connection that may be open, as `--max-connections` and the limit
    /// on open files allow.
    permits: Permits,
    /// Who may come in.
    pub(crate) admission: Arc<Admission>,
    /// How many connections or datagrams it takes in its life.
    quota: Arc<Quota>,
    /// How long it may have nothing to do. `None` if for ever.
    exit_idle: Option<Duration>,
    /// How many connections were let in.
    accepted: AtomicU64,
    /// Its sums at moments of the last minute.
    samples: Mutex<Samples>,
    /// Whether datagrams are taken whose answers could be answered without end.
    allow_loops: bool,
    /// Where what the instance knows is kept. `None` if it is not.
    state_file: Option<StateFile>,
    /// Whether the service has ended.
    over: watch::Sender<bool>,
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
    /// Of which connections the log has a line when they have ended. By default of none.
    pub access_log: AccessLog,
    /// Who may come in. By default everybody.
    pub admission: AdmissionPolicy,
    /// Limits that the service shares with others. By default none.
    pub global: Option<Arc<GlobalLimits>>,
    /// How many connections or datagrams the service takes before it drains; refused ones
    /// do not count. By default any number.
    pub exit_after: Option<NonZeroU64>,
    /// The service drains when nothing was open and nothing has come for this long. By
    /// default it waits for ever.
    pub exit_idle: Option<Duration>,
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
            access_log: AccessLog::default(),
            admission: AdmissionPolicy::default(),
            global: None,
            exit_after: None,
            exit_idle: None,
        }
    }
}

/// A service that is bound and tried, and serves nobody yet: what comes waits with the
/// kernel. Dropping it gives everything back.
#[derive(Debug)]
#[must_use = "a service on standby serves nobody"]
pub(crate) struct Standby {
    service: Service,
    work: Work,
    /// Gives the work to the service's thread.
    begin: oneshot::Sender<Work>,
    held: Held,
}

/// The listeners of a service that has not begun. Dropping it closes them at once, with
/// their files, and not when the service's thread has ended: the process may end before.
#[derive(Debug)]
struct Held(Option<Arc<Shared>>);

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.take().map(|shared| shared.listeners.accepting()));
    }
}

impl Standby {
    /// The contract of its handler.
    pub(crate) fn contract(&self) -> Contract {
        self.service.contract()
    }

    /// Begins to serve.
    pub(crate) fn begin(mut self) -> Service {
        self.held.0 = None;
        // If the thread is gone, the service's end says so.
        let _ = self.begin.send(self.work);
        self.service
    }
}

impl ServiceOptions {
    /// Checks what is known before an address is bound.
    pub(crate) fn check(&self, handler: &Handler) -> Result<(), StartError> {
        if self.state_file.is_some() && !handler.keeps_state() {
            let name = handler.source().to_owned();
            return Err(StartError::NoState { name });
        }
        let contract = handler.contract();
        let unfit = |address: &&ListenAddress| {
            let transport = address.transport();
            transport.is_some_and(|it| it.has_connections() == contract.takes_datagrams())
        };
        match self.listen.iter().find(unfit) {
            None => Ok(()),
            Some(unfit) => {
                let address = unfit.to_string();
                Err(StartError::Transport { address, contract })
            }
        }
    }
}

impl Service {
    /// Binds every address and starts to serve `handler` there.
    ///
    /// Returns when peers can connect. After an error nothing is left behind.
    pub fn start(options: ServiceOptions, handler: Handler) -> Result<Self, StartError> {
        Self::prepare(&options, handler, &[]).map(Standby::begin)
    }

    /// Binds every address and tries `handler`, and lets who comes there wait. So several
    /// services can begin together, or none of them.
    ///
    /// The sockets of `present` are open already: they were opened when the process was
    /// another user, or another service has them until this one begins.
    pub(crate) fn prepare(
        options: &ServiceOptions,
        handler: Handler,
        present: &[Opened],
    ) -> Result<Standby, StartError> {
        options.check(&handler)?;
        let backlog = handler.limits().backlog;
        let opened = opening::open(&options.listen, backlog, options.listening, present)?;
        Self::prepare_on(options, handler, Incoming::Sockets(opened))
    }

    /// Starts to serve what the process was given. `None` if nobody is there to be served.
    pub(crate) fn start_given(
        options: &ServiceOptions,
        handler: Handler,
        given: Given,
    ) -> Result<Option<Self>, StartError> {
        let incoming = match given {
            Given::Gone => return Ok(None),
            Given::Socket(opened) => Incoming::Sockets(vec![opened]),
            Given::Connection {
                socket,
                peer,
                local,
            } => Incoming::Connection {
                socket,
                peer,
                local,
            },
        };
        let standby = Self::prepare_on(options, handler, incoming)?;
        Ok(Some(standby.begin()))
    }

    fn prepare_on(
        options: &ServiceOptions,
        handler: Handler,
        incoming: Incoming,
    ) -> Result<Standby, StartError> {
        if options.state_file.is_some() && !handler.keeps_state() {
            let name = handler.source().to_owned();
            return Err(StartError::NoState { name });
        }
        let contract = handler.contract();
        let local_addresses = incoming.local_addresses();
        let unfit = |address: &&LocalAddress| {
            address.transport().has_connections() == contract.takes_datagrams()
        };
        if let Some(unfit) = local_addresses.iter().find(unfit) {
            let address = unfit.to_string();
            return Err(StartError::Transport { address, contract });
        }
        let max_connections = handler.limits().max_connections;
        let served = served_at(&local_addresses, contract, max_connections);
        options.admission.check(served)?;
        let (listeners, work) = match incoming {
            Incoming::Sockets(sockets) if contract.takes_datagrams() => {
                (Listeners::fixed(local_addresses), Work::Datagrams(sockets))
            }
            Incoming::Sockets(sockets) => (Listeners::new(sockets), Work::Listeners),
            Incoming::Connection { socket, peer, .. } => {
                let work = Work::Connection { socket, peer };
                (Listeners::fixed(local_addresses), work)
            }
        };
        let shared = Shared::new(options, listeners, Arc::new(handler));
        let held = Held(Some(Arc::clone(&shared)));
        let (begin, ended) = Arc::clone(&shared).spawn()?;
        Ok(Standby {
            service: Self { shared, ended },
            work,
            begin,
            held,
        })
    }

    /// The service's name.
    pub fn name(&self) -> &str {
        self.shared.name()
    }

    /// The contract of its current handler.
    pub fn contract(&self) -> Contract {
        self.shared.versions.current().handler.contract()
    }

    /// The dispatch of its current handler.
    pub fn dispatch(&self) -> Dispatch {
        self.shared.versions.current().handler.dispatch()
    }

    /// The addresses that the service listens on, in the order that they were given; a
    /// name may stand for several.
    pub fn local_addresses(&self) -> Vec<LocalAddress> {
        self.shared.listeners.addresses()
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

impl ServiceHandle {
    /// Replaces who may come in, from the next connection or datagram on. Connections that
    /// are open stay, and are counted as before.
    ///
    /// An error leaves the policy as it was.
    pub fn set_admission(&self, policy: AdmissionPolicy) -> Result<(), AdmissionError> {
        let service = &self.shared;
        let max_connections = service.versions.limits().max_connections;
        self.check_admission(&policy, max_connections)?;
        let room = descriptors::beside(max_connections, policy.room());
        service.admission.set(policy, room);
        Ok(())
    }

    /// Whether the policy fits what the service serves.
    pub(crate) fn check_admission(
        &self,
        policy: &AdmissionPolicy,
        max_connections: u32,
    ) -> Result<(), AdmissionError> {
        let contract = self.shared.versions.current().handler.contract();
        let addresses = self.shared.listeners.addresses();
        policy.check(served_at(&addresses, contract, max_connections))
    }
}

impl ServiceHandle {
    /// What a rollback would go to.
    pub(crate) fn previous(&self) -> Option<Previous> {
        self.shared.versions.history().previous.clone()
    }

    /// Sets what a rollback goes to: after a swap that was taken back, what it was before.
    pub(crate) fn set_previous(&self, previous: Option<Previous>) {
        self.shared.versions.history().previous = previous;
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
            .field("first_dispatch", &self.first_dispatch)
            .field("local_addresses", &self.listeners.addresses())
            .field("phase", &self.versions.phase())
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Makes the shared part, with as many permits as descriptors allow.
    fn new(options: &ServiceOptions, listeners: Listeners, handler: Arc<Handler>) -> Arc<Self> {
        let name = &options.name;
        let mut limits = handler.limits().clone();
        let (asked, opens) = (limits.max_connections, handler.instances_may_open());
        let (room, loops) = (options.admission.room(), limits.loops.saturating_sub(1));
        let descriptors = Descriptors::now().with_loops(loops);
        let Shares { permits, refused } = descriptors.shares(name, asked, opens, room);
        limits.max_connections = permits;
        let permits = Permits::new(permits);
        let dispatch = handler.dispatch();
        let asked_limits = handler.limits().clone();
        let (policy, global) = (options.admission.clone(), options.global.clone());
        let memory = MemoryBook::new(global.as_ref().and_then(|it| it.memory().cloned()));
        let versions = Versions::new(name, limits, options.access_log, handler, memory);
        Arc::new(Self {
            first_dispatch: dispatch,
            turns: watch::Sender::new(turn_under(dispatch, &versions)),
            asked: ArcSwap::from_pointee(asked_limits),
            trial: Mutex::default(),
            rollback: ArcSwap::from_pointee(options.rollback),
            listeners,
            listening: options.listening,
            allow_loops: options.allow_loops,
            state_file: options.state_file.clone().map(StateFile::new),
            kept: tokio::sync::OnceCell::new(),
            over: watch::Sender::new(false),
            swapping: Arc::default(),
            admission: Admission::new(name, policy, permits.semaphore(), refused, global),
            permits,
            quota: Arc::new(Quota::new(options.exit_after)),
            exit_idle: options.exit_idle,
            accepted: AtomicU64::new(0),
            samples: Mutex::new(Samples::new(Instant::now())),
            versions,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.versions.service
    }

    /// How many connections were let in.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}
