//! A component that is compiled, checked against what the host provides, and ready
//! to be instantiated.

use crate::aside::DropAside;
use crate::component::Component;
use crate::component::cache::CompileCache;
use crate::contract::{Contract, Dispatch};
use crate::descriptors;
use crate::guest::State;
use crate::guest::clock::{GuestClock, TimeOfDay};
use crate::guest::command;
use crate::guest::connection_table::ConnectionTable;
use crate::guest::deadline::Deadline;
use crate::guest::engine::{Built, VersionToken, build};
use crate::guest::exports::{
    Blocking, Command, CommandP3, Concurrent, Datagram, DatagramConcurrent, Evented, Exports,
    ExportsPre,
};
use crate::guest::failure::{Failure, MemoryExceeded, root_cause};
use crate::guest::grants::{Files, Grants};
use crate::guest::hand_over::{HandOver, HandOverPre, MAX_STATE};
use crate::guest::handler_error::HandlerError;
use crate::guest::imports::{Lack, lacks, linker};
use crate::guest::instance_state::{Keeper, KeeperPre};
use crate::guest::life_cycle::{self, LifeCyclePre};
use crate::guest::memory::{MemoryBook, MemoryLimit};
use crate::guest::start_cost;
use crate::guest::stdio::{GuestLog, Scope, Stream};
use crate::limits::Limits;
use crate::sockets::stdio::Stdio;
use crate::text::one_line;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

/// Resources that an instance may hold: some per connection, and some of its own.
const RESOURCES_PER_CONNECTION: usize = 16;
const RESOURCES_PER_INSTANCE: usize = 1024;

/// Resources that a program may have that runs by itself; a connection takes five.
const RESOURCES_OF_PROGRAM: usize = 1 << 20;

/// Entries that an instance may have in wasmtime's own table, and entries that one
/// resource may need. Each stream and each future has two ends. Each task has a
/// thread, and a set of the things that it waits for.
const TABLE_ENTRIES: usize = 4096;
const TABLE_ENTRIES_PER_RESOURCE: usize = 4;
/// The most bytes that the host may allocate for one call from a guest, or for the
/// result of one call into it: a state, texts and bytes beside it, and one change
/// per connection. wasmtime's default is 128 MiB.
const HOSTCALL_BYTES: usize = (2 << 20) + MAX_STATE;
const HOSTCALL_BYTES_PER_CONNECTION: usize = 64;
/// The same for datagrams. The contract says so: what one call sends has 16 MiB at most,
/// and there is something beside the bytes.
const HOSTCALL_BYTES_OF_DATAGRAMS: usize = (16 << 20) + (1 << 20);

/// How long a component may take to start, its waits included. Its computing also
/// has the deadline.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// The options of a handler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HandlerOptions {
    /// How the connections are spread over threads and instances.
    pub dispatch: Dispatch,
    /// By default [`Limits::default`].
    pub limits: Limits,
    /// What the handler may do beyond its connections. By default nothing.
    pub grants: Grants,
    /// Where compiled components are kept. By default they are not kept.
    pub cache: Option<CompileCache>,
    /// Use the code that [`precompile`](crate::precompile) has added to a component's
    /// file, also that of later versions. By default it is not used. The code runs as
    /// part of this process and without a check, so this is for files that come from you.
    pub allow_precompiled: bool,
}

impl HandlerOptions {
    /// Returns the default options for a dispatch.
    pub fn new(dispatch: Dispatch) -> Self {
        Self {
            dispatch,
            limits: Limits::default(),
            grants: Grants::default(),
            cache: None,
            allow_precompiled: false,
        }
    }
}

/// A handler component that is ready to be instantiated for a service.
pub struct Handler {
    source: String,
    digest: String,
    engine: Engine,
    pre: InstancePre<State>,
    exports: ExportsPre,
    hand_over: HandOverPre,
    keeper: KeeperPre,
    life_cycle: LifeCyclePre,
    gives_up: bool,
    contract: Contract,
    /// The grants of the options, shared with the instances.
    grants: Arc<Grants>,
    /// The granted directories, shared with the instances.
    files: Files,
    /// How many bytes a datagram may have, as the guest said when it was tried.
    max_data_bytes: AtomicU32,
    /// Its code, for other versions that find it.
    _compiled: Arc<wasmtime::component::Component>,
    /// What an instance has when it can be called; known when the handler was tried.
    start_bytes: AtomicU64,
    /// How much time is between two ticks, as the guest said when it was tried.
    tick_interval: OnceLock<Option<Duration>>,
    /// How many resources an instance may have beside those of its connections.
    own_resources: usize,
    /// The most elements of one table of an instance.
    table_elements: usize,
    options: HandlerOptions,
    _version: VersionToken,
    /// The last field, so that this is the last reference to the engine that is
    /// dropped.
    _engine: DropAside<Engine>,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("source", &self.source)
            .field("digest", &self.digest)
            .field("contract", &self.contract)
            .field("dispatch", &self.options.dispatch)
            .finish_non_exhaustive()
    }
}

impl Handler {
    /// Compiles `component` for a service. `source` says where the component came
    /// from; errors and the status show it.
    pub fn new(
        source: &str,
        component: &Component,
        options: HandlerOptions,
    ) -> Result<Self, HandlerError> {
        let contract = component.contract();
        contract.check(options.dispatch)?;
        check_composed(source, component, &options.grants)?;
        let files = options.grants.open()?;
        check_imports(source, component)?;
        let built = build(source, component, &options).map_err(|error| error.of(source))?;
        let Built {
            engine,
            compiled,
            code,
            table_elements,
            version,
        } = built;
        let compiled = Arc::new(compiled);
        code.release(source, component, &compiled);
        start_cost::log(source, component, &options);
        // The chain of causes names the import and the function.
        let mismatch = |error: wasmtime::Error| HandlerError::Mismatch {
            name: source.to_owned(),
            reason: one_line(&format!("{error:#}")),
        };
        let pre = linker(&engine, contract)
            .and_then(|linker| linker.instantiate_pre(&compiled))
            .map_err(mismatch)?;
        let exports = ExportsPre::new(contract, &pre).map_err(mismatch)?;
        let hand_over = match (component.takes_over(), contract) {
            (false, _) => HandOverPre::Absent,
            // Nothing is handed over of datagrams.
            (true, Contract::Datagram | Contract::DatagramConcurrent) => HandOverPre::Absent,
            // A program is not asked for its connection.
            (true, Contract::Command | Contract::CommandP3) => HandOverPre::Absent,
            (true, Contract::Concurrent) => HandOverPre::p3(&pre).map_err(mismatch)?,
            (true, _) => HandOverPre::p2(&pre).map_err(mismatch)?,
        };
        let keeper = match contract {
            _ if !component.keeps_state() => KeeperPre::Absent,
            // A program ends with its connection.
            Contract::Command | Contract::CommandP3 => KeeperPre::Absent,
            Contract::Concurrent | Contract::DatagramConcurrent => {
                KeeperPre::p3(&pre).map_err(mismatch)?
            }
            Contract::Blocking | Contract::Evented | Contract::Datagram => {
                KeeperPre::p2(&pre).map_err(mismatch)?
            }
        };
        let life_cycle = LifeCyclePre::new(component, &pre).map_err(mismatch)?;
        Ok(Self {
            source: source.to_owned(),
            digest: component.digest().to_owned(),
            _engine: DropAside::new(engine.clone()),
            engine,
            pre,
            exports,
            hand_over,
            keeper,
            life_cycle,
            gives_up: component.gives_up(),
            contract,
            grants: Arc::new(options.grants.clone()),
            files,
            max_data_bytes: AtomicU32::new(0),
            start_bytes: AtomicU64::new(component.start_memory_bytes()),
            _compiled: compiled,
            tick_interval: OnceLock::new(),
            own_resources: own_resources(contract, &options),
            table_elements,
            options,
            _version: version,
        })
    }

    /// Returns the contract that the component exports.
    pub fn contract(&self) -> Contract {
        self.contract
    }

    /// Returns the dispatch that the handler was made for.
    pub fn dispatch(&self) -> Dispatch {
        self.options.dispatch
    }

    /// Whether the handler can give its live connections up to another version.
    pub fn gives_up(&self) -> bool {
        self.gives_up
    }

    /// Whether the handler can take over live connections of another version.
    pub fn takes_over(&self) -> bool {
        !matches!(self.hand_over, HandOverPre::Absent)
    }

    /// Whether the handler has one instance for all, whose knowledge can pass to another
    /// version.
    pub fn keeps_state(&self) -> bool {
        self.shares_instance() && self.exports_state()
    }

    /// Whether the component exports how what an instance knows passes on.
    pub(crate) fn exports_state(&self) -> bool {
        !matches!(self.keeper, KeeperPre::Absent)
    }

    /// Whether the handler decides which peers come in.
    pub(crate) fn verifies(&self) -> bool {
        self.life_cycle.verifies()
    }

    /// Whether the handler is told which connections have failed.
    pub(crate) fn takes_errors(&self) -> bool {
        self.life_cycle.takes_errors()
    }

    /// How much time is between two ticks of the handler. `None` if it has none.
    pub(crate) fn tick_interval(&self) -> Option<Duration> {
        self.tick_interval.get().copied().flatten()
    }

    /// Returns where the component came from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Returns the SHA-256 of the component file, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns the options that the handler was made with.
    pub(crate) fn options(&self) -> &HandlerOptions {
        &self.options
    }

    /// How many bytes a datagram may have, to be received by the guest.
    pub(crate) fn max_data_bytes(&self) -> usize {
        let limit = self.max_data_bytes.load(Ordering::Relaxed);
        usize::try_from(limit).unwrap_or(usize::MAX)
    }

    /// Whether the guest may send a datagram to somebody who has not written.
    pub(crate) fn may_send_to(&self, peer: SocketAddr) -> bool {
        self.grants.covers_send(peer)
    }

    pub(crate) fn shares_instance(&self) -> bool {
        self.options.dispatch.shares_instance(self.contract)
    }

    /// Whether each connection has an instance of its own that may open files or
    /// sockets.
    pub(crate) fn instances_may_open(&self) -> bool {
        self.grants.may_open() && !self.shares_instance()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Makes an empty store. The instance's output is logged under `scope`.
    /// `connection_table` has the connections that the instance serves.
    pub(crate) fn store(
        &self,
        scope: Scope,
        connection_table: ConnectionTable,
    ) -> Result<(Store<State>, GuestClock), Failure> {
        let stderr = GuestLog::new(scope.clone(), Stream::Stderr);
        self.store_logging(scope, stderr, connection_table)
    }

    /// Does the same for an instance of one connection or datagram, when all services
    /// together have room for what it begins with.
    pub(crate) async fn store_in_turn(
        &self,
        scope: Scope,
        connection_table: ConnectionTable,
    ) -> Result<(Store<State>, GuestClock), Failure> {
        let bytes = self.start_bytes.load(Ordering::Relaxed);
        let reserved = scope.memory.reserve(&scope.service, bytes).await;
        let (mut store, clock) = self.store(scope, connection_table)?;
        store.data_mut().memory.begin_with(reserved);
        Ok((store, clock))
    }

    /// The same, with `stderr` for the instance's standard error.
    fn store_logging(
        &self,
        scope: Scope,
        stderr: GuestLog,
        connection_table: ConnectionTable,
    ) -> Result<(Store<State>, GuestClock), Failure> {
        let mut wasi = WasiCtx::builder();
        let memory = Arc::clone(&scope.memory);
        wasi.stdout(GuestLog::new(scope, Stream::Stdout));
        wasi.stderr(stderr);
        let mut variables = Vec::new();
        if self.contract.is_command()
            && let Some(connection) = connection_table.only()
        {
            variables = command::environment(connection);
            wasi.stdin(Stdio::new(connection));
            wasi.stdout(Stdio::new(connection));
        }
        self.store_with(wasi, &variables, connection_table, memory)
    }

    /// The same with a context to which this adds what the handler was granted.
    pub(super) fn store_with(
        &self,
        mut wasi: WasiCtxBuilder,
        variables: &[(String, String)],
        connection_table: ConnectionTable,
        memory: Arc<MemoryBook>,
    ) -> Result<(Store<State>, GuestClock), Failure> {
        wasi.wall_clock(TimeOfDay);
        wasi.arg(command::name(&self.source));
        self.grants.apply(&mut wasi, variables);
        let connections = if self.shares_instance() {
            self.options.limits.max_connections as usize
        } else {
            1
        };
        let max_resources = if self.instances_may_open() {
            // Each resource may be a file or a socket.
            self.own_resources
        } else {
            self.own_resources + RESOURCES_PER_CONNECTION * connections
        };
        let moved = connection_table.moved();
        let max_memory_bytes = self.options.limits.max_memory_bytes;
        let memory = MemoryLimit::new(max_memory_bytes, self.table_elements, memory);
        let mut state = State::new(wasi.build(), memory, max_resources, connection_table);
        self.files.give_to(&mut state);
        let mut store = Store::new(&self.engine, state);
        store.set_hostcall_fuel(if self.contract.takes_datagrams() {
            HOSTCALL_BYTES_OF_DATAGRAMS
        } else {
            HOSTCALL_BYTES + HOSTCALL_BYTES_PER_CONNECTION * connections
        });
        if let Some(table) = store.concurrent_resource_table() {
            // wasmtime keeps tasks, streams and futures in this table. A guest
            // whose tasks never end is ended when the table is full.
            table.set_max_capacity(TABLE_ENTRIES + max_resources * TABLE_ENTRIES_PER_RESOURCE);
        }
        store.limiter(|state| &mut state.memory);
        let clock = GuestClock::install(&mut store, self.options.limits.deadline, moved);
        Ok((store, clock))
    }

    /// Instantiates the component once, and drops the instance. So a component that
    /// cannot start is refused before it costs a connection. One that does not start as it
    /// was configured says why on its standard error; the error has its last line.
    pub(crate) async fn try_instantiate(&self, scope: Scope) -> Result<(), HandlerError> {
        let stderr = GuestLog::keeping_last(scope.clone(), Stream::Stderr);
        let trial = async {
            let table = ConnectionTable::empty();
            let (mut store, clock) = self.store_logging(scope, stderr.clone(), table)?;
            let deadline = Deadline(self.limits().deadline);
            match self.contract {
                Contract::Blocking => {
                    let made = self.instantiate::<Blocking>(&mut store, &clock);
                    made.await.map(drop)?;
                }
                Contract::Evented => {
                    let made = self.instantiate::<Evented>(&mut store, &clock);
                    made.await.map(drop)?;
                }
                Contract::Concurrent => {
                    let made = self.instantiate::<Concurrent>(&mut store, &clock);
                    made.await.map(drop)?;
                }
                Contract::Command => {
                    let made = self.instantiate::<Command>(&mut store, &clock);
                    made.await.map(drop)?;
                }
                Contract::CommandP3 => {
                    let made = self.instantiate::<CommandP3>(&mut store, &clock);
                    made.await.map(drop)?;
                }
                Contract::Datagram => {
                    let made = self.instantiate::<Datagram>(&mut store, &clock);
                    let (guest, _) = made.await?;
                    let limit = guest.max_data_bytes(&mut store, &clock).await?;
                    self.max_data_bytes.store(limit, Ordering::Relaxed);
                }
                Contract::DatagramConcurrent => {
                    let made = self.instantiate::<DatagramConcurrent>(&mut store, &clock);
                    let (guest, _) = made.await?;
                    let asking = store
                        .run_concurrent(async |accessor| guest.max_data_bytes_in(accessor).await);
                    let limit = deadline.hold(pin!(clock.count(pin!(asking)))).await??;
                    self.max_data_bytes.store(limit, Ordering::Relaxed);
                }
            }
            let start_bytes = store.data().memory.used();
            self.start_bytes.store(start_bytes, Ordering::Relaxed);
            let interval = life_cycle::interval(&mut store, &clock, deadline).await?;
            // A handler may be tried again, and says the same.
            let _ = self.tick_interval.set(interval);
            if !self.has_loops() {
                return Ok(true);
            }
            let others = self.limits().loops.saturating_sub(1);
            let room = store.data().memory.check_room_for(others);
            room.map_err(Failure::Host)?;
            // What one instance knows, the others would not know.
            if self.keeps_state() {
                return Ok(false);
            }
            life_cycle::independent(&mut store, &clock, deadline).await
        };
        let may_serve = trial
            .await
            .map_err(|failure: Failure| HandlerError::Instantiate {
                name: self.source.clone(),
                reason: match stderr.take_last() {
                    Some(line) => format!("{failure}; it wrote: {}", one_line(&line)),
                    None => failure.to_string(),
                },
            })?;
        if may_serve {
            return Ok(());
        }
        Err(HandlerError::Dependent {
            name: self.source.clone(),
            loops: self.limits().loops,
        })
    }

    /// Whether several event loops have an instance each, which serves connections.
    fn has_loops(&self) -> bool {
        self.limits().loops > 1 && self.shares_instance() && !self.contract.takes_datagrams()
    }
}

impl Handler {
    /// Makes an instance in `store`, for a dispatch of the contract `E`.
    pub(crate) async fn instantiate<E: Exports>(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> Result<(E, HandOver), Failure> {
        let instance = self.start(store, clock).await?;
        self.load(store, &instance)
    }

    /// Does the same for an instance that serves all.
    pub(super) async fn instantiate_for_all<E: Exports>(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> Result<(E, HandOver, Keeper), Failure> {
        let instance = self.start(store, clock).await?;
        let (exports, hand_over) = self.load(store, &instance)?;
        let keeper = self.keeper.load(store, &instance);
        let keeper = keeper.map_err(|error| Failure::from_instantiation(&error))?;
        Ok((exports, hand_over, keeper))
    }

    /// Does the same for an instance that serves nobody: only the functions of the life
    /// cycle are called.
    pub(crate) async fn instantiate_alone(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> Result<(), Failure> {
        let instance = self.start(store, clock).await?;
        let loaded = self.life_cycle.load(store, &instance);
        loaded.map_err(|error| Failure::from_instantiation(&error))
    }

    /// Finds the functions of an instance.
    fn load<E: Exports>(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> Result<(E, HandOver), Failure> {
        let Some(exports) = E::load(&self.exports, store, instance) else {
            return Err(Failure::Instantiate(format!(
                "the contract is {}",
                self.contract
            )));
        };
        let exports = exports.map_err(|error| Failure::from_instantiation(&error))?;
        let hand_over = self.hand_over.load(store, instance);
        let hand_over = hand_over.map_err(|error| Failure::from_instantiation(&error))?;
        let loaded = self.life_cycle.load(store, instance);
        loaded.map_err(|error| Failure::from_instantiation(&error))?;
        Ok((exports, hand_over))
    }

    async fn start(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> Result<Instance, Failure> {
        let instantiating = pin!(self.pre.instantiate_async(store));
        let instantiating = pin!(clock.count(instantiating));
        match tokio::time::timeout(START_TIMEOUT, instantiating).await {
            Ok(Ok(instance)) => Ok(instance),
            Ok(Err(error)) => Err(match error.downcast_ref::<MemoryExceeded>() {
                Some(exceeded) => Failure::Instantiate(format!("{exceeded}; raise --max-memory")),
                None => Failure::from_instantiation(&error),
            }),
            Err(_) => Err(Failure::Instantiate(format!(
                "it waits for longer than {START_TIMEOUT:?} before it can be called"
            ))),
        }
    }
}

/// Returns how many resources an instance may have beside those of its connections. If
/// they can be files or sockets, there are at most as many as its descriptors.
///
/// A program that runs by itself may have as many as it likes: it has the process for
/// itself, and a socket that finds no descriptor fails.
fn own_resources(contract: Contract, options: &HandlerOptions) -> usize {
    if options.grants.tell_refusals {
        return RESOURCES_OF_PROGRAM;
    }
    if !options.grants.may_open() {
        return RESOURCES_PER_INSTANCE;
    }
    let shared = options.dispatch.shares_instance(contract);
    let instances = if shared {
        1
    } else {
        options.limits.max_connections
    };
    descriptors::own_per_instance(instances).min(RESOURCES_PER_INSTANCE)
}

/// Refuses a command that listens by itself, if it may listen nowhere.
fn check_composed(
    source: &str,
    component: &Component,
    grants: &Grants,
) -> Result<(), HandlerError> {
    let Some(contract) = component.composed() else {
        return Ok(());
    };
    let (granted, grant) = if contract.starts_with("datagram") {
        (&grants.udp, "--allow-udp")
    } else {
        (&grants.listen, "--allow-listen")
    };
    if !granted.is_empty() {
        return Ok(());
    }
    Err(HandlerError::Composed {
        name: source.to_owned(),
        grant,
    })
}

/// Refuses a component with an import that the host does not provide. The error
/// names the first such import.
pub(super) fn check_imports(source: &str, component: &Component) -> Result<(), HandlerError> {
    let lacks = lacks(component);
    let lacks = lacks.map_err(|error| HandlerError::Engine(root_cause(&error)))?;
    let lacking = |(import, lack): (String, Option<Lack>)| lack.map(|lack| (import, lack));
    match lacks.into_iter().filter_map(lacking).next() {
        None => Ok(()),
        Some((import, lack)) => Err(HandlerError::lacking(source, import, &lack)),
    }
}
