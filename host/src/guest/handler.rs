//! A component compiled, checked against what the host provides, and ready to
//! be instantiated.

use crate::contract::{Contract, Dispatch, Incompatible};
use crate::guest::State;
use crate::guest::aside::DropAside;
use crate::guest::bindings::blocking::{BlockingHandler, BlockingHandlerIndices};
use crate::guest::bindings::concurrent::{ConcurrentHandler, ConcurrentHandlerIndices};
use crate::guest::bindings::evented::{EventedHandler, EventedHandlerIndices};
use crate::guest::cache::CompileCache;
use crate::guest::clock::{GuestClock, TimeOfDay};
use crate::guest::component::{Component, speaks};
use crate::guest::draining;
use crate::guest::engine::engine;
use crate::guest::failure::{Failure, root_cause};
use crate::guest::grants::{GrantError, Grants};
use crate::guest::hand_over::{HandOver, HandOverPre};
use crate::guest::roster::Roster;
use crate::guest::stdio::{GuestLog, Scope, Stream};
use crate::limits::Limits;
use crate::sockets;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::{Instance, InstancePre, Linker};
use wasmtime::{Engine, Store};
use wasmtime_wasi::WasiCtx;

/// Resources that an instance may hold: a few for each of its connections, and
/// some of its own.
const RESOURCES_PER_CONNECTION: usize = 16;
const RESOURCES_PER_INSTANCE: usize = 1024;

/// Entries of wasmtime's own table that a resource may need: each stream and future
/// has two ends, and each task a thread and a set of what it waits for.
const TABLE_ENTRIES_PER_RESOURCE: usize = 4;

/// How long a component may take to start, with what it waits for. Its computing
/// has the deadline besides.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// What a handler is made for.
#[derive(Clone, Debug)]
pub struct HandlerOptions {
    /// How its connections are spread over threads and instances.
    pub dispatch: Dispatch,
    /// By default [`Limits::default`].
    pub limits: Limits,
    /// What it may do beyond its connections. By default nothing.
    pub grants: Grants,
    /// Where compiled components are kept. By default nowhere.
    pub cache: Option<CompileCache>,
}

impl HandlerOptions {
    /// The defaults, for a dispatch.
    pub fn new(dispatch: Dispatch) -> Self {
        Self {
            dispatch,
            limits: Limits::default(),
            grants: Grants::default(),
            cache: None,
        }
    }
}

/// A handler component, ready to be instantiated for a service.
pub struct Handler {
    source: String,
    digest: String,
    engine: Engine,
    pre: InstancePre<State>,
    exports: Exports,
    hand_over: HandOverPre,
    gives_up: bool,
    contract: Contract,
    /// Those of the options, shared with the instances.
    grants: Arc<Grants>,
    options: HandlerOptions,
    /// Last, so that its hold on the engine is the last one.
    _engine: DropAside<Engine>,
}

/// Where to find the contract's functions in each instance.
enum Exports {
    Blocking(BlockingHandlerIndices),
    Evented(EventedHandlerIndices),
    Concurrent(ConcurrentHandlerIndices),
}

/// Why a component cannot be a service's handler. One line each.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// Contract and dispatch do not go together.
    #[error(transparent)]
    Incompatible(#[from] Incompatible),
    /// A grant cannot be given.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// wasmtime cannot be set up with these limits.
    #[error("cannot set up the engine: {0}")]
    Engine(String),
    /// wasmtime does not accept the component.
    #[error("{name}: cannot be compiled: {reason}")]
    Compile {
        /// The component's name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The component imports what the host does not have.
    #[error(
        "{name}: imports {import}, which sockserve does not provide; compose the component with \
         one that exports it, for example with `wac plug`"
    )]
    Import {
        /// The component's name.
        name: String,
        /// The import.
        import: String,
    },
    /// The component's imports or exports have other types than the host's.
    #[error("{name}: does not fit: {reason}")]
    Mismatch {
        /// The component's name.
        name: String,
        /// What does not fit.
        reason: String,
    },
    /// The component could not be instantiated.
    #[error("{name}: {reason}")]
    Instantiate {
        /// The component's name.
        name: String,
        /// What went wrong.
        reason: String,
    },
}

impl Handler {
    /// Compiles `component` for a service. `source` says where it came from, in
    /// errors and in the status.
    pub fn new(
        source: &str,
        component: &Component,
        options: HandlerOptions,
    ) -> Result<Self, HandlerError> {
        let contract = component.contract();
        contract.check(options.dispatch)?;
        options.grants.check()?;
        for import in component.imports() {
            if !is_provided(contract, import) {
                return Err(HandlerError::Import {
                    name: source.to_owned(),
                    import: import.clone(),
                });
            }
        }
        let engine = engine(contract, &options, component.core)
            .map_err(|error| HandlerError::Engine(root_cause(&error)))?;
        let compiled = wasmtime::component::Component::new(&engine, component.bytes());
        let compiled = compiled.map_err(|error| HandlerError::Compile {
            name: source.to_owned(),
            reason: root_cause(&error),
        })?;
        let mismatch = |error: wasmtime::Error| HandlerError::Mismatch {
            name: source.to_owned(),
            reason: root_cause(&error),
        };
        let pre = linker(&engine, contract)
            .and_then(|linker| linker.instantiate_pre(&compiled))
            .map_err(mismatch)?;
        let exports = Exports::new(contract, &pre).map_err(mismatch)?;
        let hand_over = match (component.takes_over(), contract) {
            (false, _) => HandOverPre::Absent,
            (true, Contract::Concurrent) => HandOverPre::p3(&pre).map_err(mismatch)?,
            (true, _) => HandOverPre::p2(&pre).map_err(mismatch)?,
        };
        Ok(Self {
            source: source.to_owned(),
            digest: component.digest(),
            _engine: DropAside::new(engine.clone()),
            engine,
            pre,
            exports,
            hand_over,
            gives_up: component.gives_up(),
            contract,
            grants: Arc::new(options.grants.clone()),
            options,
        })
    }

    /// The contract that the component exports.
    pub fn contract(&self) -> Contract {
        self.contract
    }

    /// The dispatch that the handler was made for.
    pub fn dispatch(&self) -> Dispatch {
        self.options.dispatch
    }

    /// Whether it can pass its live connections on to another version.
    pub fn gives_up(&self) -> bool {
        self.gives_up
    }

    /// Whether it can take on live connections of another version.
    pub fn takes_over(&self) -> bool {
        !matches!(self.hand_over, HandOverPre::Absent)
    }

    /// Where the component came from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// SHA-256 of the component file, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What it was made for.
    pub(crate) fn options(&self) -> &HandlerOptions {
        &self.options
    }

    pub(crate) fn shares_instance(&self) -> bool {
        self.options.dispatch.shares_instance(self.contract)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// A new, empty store, for an instance whose output is logged under
    /// `scope`. `roster` has the connections that it serves.
    pub(crate) fn store(
        &self,
        scope: Scope,
        roster: Roster,
    ) -> Result<(Store<State>, GuestClock), Failure> {
        let mut wasi = WasiCtx::builder();
        self.grants
            .apply(&mut wasi)
            .map_err(|error| Failure::from_instantiation(&error))?;
        wasi.wall_clock(TimeOfDay);
        wasi.stdout(GuestLog::new(scope.clone(), Stream::Stdout));
        wasi.stderr(GuestLog::new(scope, Stream::Stderr));
        let connections = if self.shares_instance() {
            self.options.limits.max_connections as usize
        } else {
            1
        };
        let max_resources = RESOURCES_PER_INSTANCE + RESOURCES_PER_CONNECTION * connections;
        let moved = roster.moved();
        let max_memory_bytes = self.options.limits.max_memory_bytes;
        let state = State::new(wasi.build(), max_memory_bytes, max_resources, roster);
        let mut store = Store::new(&self.engine, state);
        if let Some(table) = store.concurrent_resource_table() {
            // What wasmtime keeps of tasks, streams and futures; a guest whose tasks
            // never end is ended when it is full.
            table.set_max_capacity(max_resources * TABLE_ENTRIES_PER_RESOURCE);
        }
        store.limiter(|state| &mut state.memory);
        let clock = GuestClock::install(&mut store, self.options.limits.deadline, moved);
        Ok((store, clock))
    }

    /// Instantiates once and drops the instance, so that a component which
    /// cannot start is refused before it costs a connection.
    pub(crate) async fn probe(&self, scope: Scope) -> Result<(), HandlerError> {
        let probe = async {
            let (mut store, clock) = self.store(scope, Roster::empty())?;
            match self.contract {
                Contract::Blocking => self.blocking(&mut store, &clock).await.map(drop),
                Contract::Evented => self.evented(&mut store, &clock).await.map(drop),
                Contract::Concurrent => self.concurrent(&mut store, &clock).await.map(drop),
            }
        };
        probe
            .await
            .map_err(|failure: Failure| HandlerError::Instantiate {
                name: self.source.clone(),
                reason: failure.to_string(),
            })
    }
}

/// Makes the method that instantiates one contract.
macro_rules! instantiate {
    ($($method:ident, $variant:ident, $exports:ident;)*) => {
        impl Handler {$(
            pub(crate) async fn $method(
                &self,
                store: &mut Store<State>,
                clock: &GuestClock,
            ) -> Result<($exports, HandOver), Failure> {
                let Exports::$variant(indices) = &self.exports else {
                    return Err(Failure::Instantiate(format!(
                        "the contract is {}",
                        self.contract
                    )));
                };
                let instance = self.instantiate(store, clock).await?;
                let exports = indices.load(&mut *store, &instance);
                let exports = exports.map_err(|error| Failure::from_instantiation(&error))?;
                let hand_over = self.hand_over.load(store, &instance);
                let hand_over = hand_over.map_err(|error| Failure::from_instantiation(&error))?;
                Ok((exports, hand_over))
            }
        )*}
    };
}

instantiate! {
    blocking, Blocking, BlockingHandler;
    evented, Evented, EventedHandler;
    concurrent, Concurrent, ConcurrentHandler;
}

impl Handler {
    async fn instantiate(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> Result<Instance, Failure> {
        let instantiating = clock.count(self.pre.instantiate_async(store));
        match tokio::time::timeout(START_TIMEOUT, instantiating).await {
            Ok(Ok(instance)) => Ok(instance),
            Ok(Err(error)) => Err(Failure::from_instantiation(&error)),
            Err(_) => Err(Failure::Instantiate(format!(
                "it waits for longer than {START_TIMEOUT:?} before it can be called"
            ))),
        }
    }
}

impl Exports {
    fn new(contract: Contract, pre: &InstancePre<State>) -> wasmtime::Result<Self> {
        Ok(match contract {
            Contract::Blocking => Self::Blocking(BlockingHandlerIndices::new(pre)?),
            Contract::Evented => Self::Evented(EventedHandlerIndices::new(pre)?),
            Contract::Concurrent => Self::Concurrent(ConcurrentHandlerIndices::new(pre)?),
        })
    }
}

/// What the host provides: WASI, with its own TCP sockets in the place of
/// wasmtime-wasi's.
fn linker(engine: &Engine, contract: Contract) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    linker.allow_shadowing(true);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    sockets::p2::add_to_linker(&mut linker)?;
    if contract == Contract::Concurrent {
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        sockets::p3::add_to_linker(&mut linker)?;
    }
    draining::add_to_linker(&mut linker, contract == Contract::Concurrent)?;
    Ok(linker)
}

/// Whether the host has `import`, as its name and version say. A 0.3 component
/// may use 0.2 as well: that is what Rust's standard library does.
pub(crate) fn is_provided(contract: Contract, import: &str) -> bool {
    const PACKAGES: [&str; 6] = [
        "wasi:cli",
        "wasi:clocks",
        "wasi:filesystem",
        "wasi:io",
        "wasi:random",
        "wasi:sockets",
    ];
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    if contract.draining() == Some(interface) {
        return speaks(version);
    }
    let package = interface.split_once('/').map_or("", |(package, _)| package);
    let version = version.starts_with("0.2.")
        || (contract == Contract::Concurrent && version.starts_with("0.3."));
    PACKAGES.contains(&package) && version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_provided_by_package_and_version() {
        let check = |contract, import: &str, expected| {
            assert_eq!(is_provided(contract, import), expected, "{import}");
        };
        check(Contract::Blocking, "wasi:sockets/tcp@0.2.12", true);
        check(Contract::Blocking, "wasi:sockets/types@0.3.0", false);
        check(Contract::Concurrent, "wasi:sockets/types@0.3.0", true);
        check(Contract::Concurrent, "wasi:cli/environment@0.2.6", true);
        check(Contract::Blocking, "wasi:http/types@0.2.12", false);
        let draining = "sockserve:handler/blocking-draining";
        check(Contract::Blocking, &format!("{draining}@0.1.0"), true);
        check(Contract::Blocking, &format!("{draining}@0.2.0"), false);
        check(Contract::Concurrent, &format!("{draining}@0.1.0"), false);
        check(Contract::Blocking, "acme:vault/secrets", false);
        check(Contract::Blocking, "plain", false);
    }
}
