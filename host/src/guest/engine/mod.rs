//! How wasmtime is set up for one version of a handler.
//!
//! The component is compiled first by an engine that reserves nothing. The compiled
//! component says exactly what its instances take, down to the last table. The pool
//! is then made with these numbers.
//!
//! | file | |
//! | --- | --- |
//! | `plan` | which memories a version gets, and whether it has a pool |
//! | `demand` | what the instances of a version take, and whether there is room |
//! | `system` | how much address space and how many mappings there are |
//! | `proposals` | which proposals of WebAssembly a component may use |

mod demand;
mod plan;
mod proposals;
mod system;

use crate::component::Component;
use crate::contract::{Contract, Dispatch};
use crate::guest::clock;
use crate::guest::code::Code;
use crate::guest::failure::root_cause;
use crate::guest::handler::HandlerOptions;
use crate::guest::handler_error::HandlerError;
use crate::guest::memory::TABLE_ELEMENT;
use crate::limits::Limits;
use demand::{CALL_STACK, Demand};
use plan::Plan;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use system::Room;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmFeatures,
};

pub(super) use demand::NoRoom;

/// The stack that a guest may use, in bytes.
const WASM_STACK: usize = 512 << 10;

/// How many instances of a shared contract may exist at once: the one that serves,
/// and earlier ones that are ending.
pub(crate) const SHARED_INSTANCES: u32 = 4;

/// Stacks beyond one per instance, for `concurrent`. A guest that cancels a host
/// call waits for the cancellation on its own stack, and the store meanwhile runs
/// another task on a second stack. The second stack is used only while the store is
/// polled, so these are for the stores that are polled at the same time.
const SPARE_STACKS: u32 = 64;

/// The most elements of one table, unless the component begins with more.
const TABLE_ELEMENTS: u64 = 20_000;

/// The most core instances of one component. `component` refuses a component with
/// more.
const CORE_INSTANCES: u32 = 1000;
/// The smallest limit on the data that the host keeps for one instance beside its
/// memories. The data is allocated when the instance is made, so the limit reserves
/// nothing. The size of the data follows from the component, and may be as large as
/// the memory limit.
const MIN_INSTANCE_SIZE: u64 = 1 << 20;

/// The size of a page of WebAssembly, in bytes.
const WASM_PAGE: u64 = 64 << 10;

/// How many bytes of a freed slot in the pool stay in memory, zeroed.
const MEMORY_KEPT: usize = 1 << 20;
const TABLE_KEPT: usize = 64 << 10;
const STACK_KEPT: usize = 64 << 10;

/// Engines of versions that exist, and the instances of all of them.
static VERSIONS: AtomicUsize = AtomicUsize::new(0);
static INSTANCES: AtomicU32 = AtomicU32::new(0);

/// Counts a version for as long as it exists.
pub(super) struct VersionToken(());

impl VersionToken {
    fn new() -> Self {
        VERSIONS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for VersionToken {
    fn drop(&mut self) {
        VERSIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts an instance for as long as it exists.
pub(super) struct InstanceToken(());

impl InstanceToken {
    pub(super) fn new() -> Self {
        INSTANCES.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for InstanceToken {
    fn drop(&mut self) {
        INSTANCES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A component that is compiled, and the engine that its instances run on.
pub(super) struct Built {
    pub(super) engine: Engine,
    pub(super) compiled: wasmtime::component::Component,
    /// The code that is loaded.
    pub(super) code: Code,
    /// The most elements of a table.
    pub(super) table_elements: usize,
    pub(super) version: VersionToken,
}

/// Why no engine could be made.
pub(super) enum BuildError {
    /// wasmtime does not accept the component.
    Compile(wasmtime::Error),
    /// An instance takes more than it may have. One line, with the option to
    /// change.
    TooLarge(String),
    /// The system has too little room.
    NoRoom(NoRoom),
    /// The system refused something.
    Engine(wasmtime::Error),
}

impl BuildError {
    /// Returns the error as one about the component `name`.
    pub(super) fn of(self, name: &str) -> HandlerError {
        let name = name.to_owned();
        match self {
            Self::Compile(error) => HandlerError::Compile {
                name,
                reason: root_cause(&error),
            },
            Self::TooLarge(reason) => HandlerError::TooLarge { name, reason },
            Self::NoRoom(no_room) => HandlerError::NoRoom {
                name,
                reason: no_room.to_string(),
            },
            Self::Engine(error) => HandlerError::Engine(root_cause(&error)),
        }
    }
}

/// Compiles a component and makes the engine for its instances. `source` is its name in
/// the log.
pub(super) fn build(
    source: &str,
    component: &Component,
    options: &HandlerOptions,
) -> Result<Built, BuildError> {
    let contract = component.contract();
    let beside = instances_beside(component, options.dispatch);
    let mut most = Plan::LARGEST;
    let mut figures = Figures::SMALL;
    loop {
        let demand = figures.demand(contract, options).with(beside);
        let plan = Plan::decide(&demand, &Room::now(), most).map_err(BuildError::NoRoom)?;
        let setup = Setup {
            contract,
            limits: &options.limits,
            plan,
        };
        let engine = setup.engine(None).map_err(BuildError::Engine)?;
        let code = Code::of(source, component, &engine, &setup, options)?;
        let compiled = code.load(&engine).map_err(BuildError::Engine)?;
        figures = Figures::of(&compiled).ok_or_else(|| {
            let error = wasmtime::Error::msg("it imports core modules, which nobody has");
            BuildError::Compile(error)
        })?;
        figures.check(&options.limits)?;
        let demand = figures.demand(contract, options).with(beside);
        let wanted = Plan::decide(&demand, &Room::now(), most).map_err(BuildError::NoRoom)?;
        if wanted.memories != plan.memories {
            // The component has more memories than expected, or another version has
            // taken the room. The compiled code depends on the kind of memory, so
            // compile again.
            most = wanted;
            continue;
        }
        let table_elements = usize::try_from(demand.table_elements).unwrap_or(usize::MAX);
        let built = |engine: Engine, compiled, code| {
            clock::tick(&engine).map_err(|error| BuildError::Engine(error.into()))?;
            Ok(Built {
                engine,
                compiled,
                code,
                table_elements,
                version: VersionToken::new(),
            })
        };
        if !wanted.pooled {
            return built(engine, compiled, code);
        }
        drop((engine, compiled));
        match setup.engine(Some(&demand)) {
            Ok(engine) => {
                let loaded = code.load(&engine);
                let compiled = loaded.map_err(|error| {
                    // By its numbers the component fits into the pool. What does
                    // not fit is the data that the host keeps for an instance.
                    BuildError::TooLarge(format!(
                        "{}; raise --max-memory",
                        root_cause(&error).split(';').next().unwrap_or_default()
                    ))
                })?;
                return built(engine, compiled, code);
            }
            // The system gives less than it seemed to have.
            Err(error) => match plan.smaller() {
                Some(smaller) => most = smaller,
                None => return Err(BuildError::Engine(error)),
            },
        }
    }
}

/// How many instances there are beside those that serve. Where no instance serves all, the
/// calls of `error` and `tick` have one of their own, one at a time.
fn instances_beside(component: &Component, dispatch: Dispatch) -> u32 {
    let life_cycle = component.life_cycle();
    let is_called = life_cycle.error || life_cycle.tick;
    u32::from(is_called && !dispatch.shares_instance(component.contract()))
}

/// Makes an engine that can compile a component but cannot run it.
pub(super) fn compiler(contract: Contract) -> wasmtime::Result<Engine> {
    let setup = Setup {
        contract,
        limits: &Limits::default(),
        plan: Plan::LARGEST,
    };
    setup.engine(None)
}

/// What an instance of a component takes, as compiled.
#[derive(Clone, Copy, Debug)]
struct Figures {
    memories: u32,
    tables: u32,
    /// The initial size of the largest memory, in bytes.
    memory: u64,
    /// The initial size of the largest table, in elements.
    elements: u64,
}

impl Figures {
    /// A guess, before the component is compiled.
    const SMALL: Self = Self {
        memories: 1,
        tables: 1,
        memory: 0,
        elements: 0,
    };

    fn of(compiled: &wasmtime::component::Component) -> Option<Self> {
        let required = compiled.resources_required()?;
        Some(Self {
            memories: required.num_memories,
            tables: required.num_tables,
            // wasmtime counts the size in pages.
            memory: required
                .max_initial_memory_size
                .unwrap_or(0)
                .saturating_mul(WASM_PAGE),
            elements: required.max_initial_table_size.unwrap_or(0),
        })
    }

    /// Checks that an instance can begin under these limits.
    fn check(&self, limits: &Limits) -> Result<(), BuildError> {
        let most = limits.max_memory_bytes;
        let tables = self.elements.saturating_mul(TABLE_ELEMENT);
        for (what, bytes) in [("a memory", self.memory), ("a table", tables)] {
            if bytes > most {
                return Err(BuildError::TooLarge(format!(
                    "it begins with {what} of {bytes} bytes, and may have {most}; raise \
                     --max-memory to more than {bytes}"
                )));
            }
        }
        Ok(())
    }

    /// Returns what all instances of a version take.
    fn demand(&self, contract: Contract, options: &HandlerOptions) -> Demand {
        let HandlerOptions {
            dispatch, limits, ..
        } = options;
        let instances = match dispatch {
            _ if dispatch.shares_instance(contract) => {
                let loops = u32::try_from(limits.loops).unwrap_or(u32::MAX);
                SHARED_INSTANCES.saturating_mul(loops)
            }
            // The next instance may begin before the last one is dropped.
            Dispatch::Sequential => 2,
            Dispatch::Threaded | Dispatch::Poll => limits.max_connections,
        };
        let stacks = match contract {
            Contract::Concurrent | Contract::DatagramConcurrent | Contract::CommandP3 => {
                instances.saturating_add(SPARE_STACKS)
            }
            Contract::Blocking | Contract::Evented | Contract::Datagram | Contract::Command => {
                instances
            }
        };
        Demand {
            instances,
            stacks,
            live: INSTANCES.load(Ordering::Relaxed),
            memories: self.memories,
            tables: self.tables,
            initial_memory: self.memory,
            max_memory: limits.max_memory_bytes,
            table_elements: self.elements.max(TABLE_ELEMENTS),
            versions: VERSIONS.load(Ordering::Relaxed),
        }
    }
}

/// The settings of an engine.
pub(super) struct Setup<'a> {
    contract: Contract,
    limits: &'a Limits,
    plan: Plan,
}

impl Setup<'_> {
    /// Makes an engine, with a pool for `pool` or without one. Code compiled by an
    /// engine with a pool runs on one without, and the other way round.
    fn engine(&self, pool: Option<&Demand>) -> wasmtime::Result<Engine> {
        let mut config = self.config()?;
        if let Some(demand) = pool {
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(self.pool(demand)?));
        }
        Engine::new(&config)
    }

    /// Makes an engine that compiles on one thread only.
    pub(super) fn single_threaded(&self) -> wasmtime::Result<Engine> {
        let mut config = self.config()?;
        config.parallel_compilation(false);
        Engine::new(&config)
    }

    fn config(&self) -> wasmtime::Result<Config> {
        let concurrency = self.contract.is_p3();
        let memories = self.plan.memories;
        let enabled = proposals::enabled(concurrency);
        let mut config = Config::new();
        config
            .wasm_features(WasmFeatures::all().difference(enabled), false)
            .wasm_features(enabled, true)
            .memory_reservation(memories.reservation(self.limits.max_memory_bytes))
            .memory_guard_size(memories.guard())
            .memory_reservation_for_growth(1 << 20)
            .max_wasm_stack(WASM_STACK)
            .async_stack_size(usize::try_from(CALL_STACK)?)
            // With copy-on-write images a memory would need four mappings instead
            // of two.
            .memory_init_cow(false)
            .epoch_interruption(true)
            // 0.2 handlers do not use the concurrency of 0.3, which would cost them
            // about 5 %.
            .concurrency_support(concurrency);
        Ok(config)
    }

    fn pool(&self, demand: &Demand) -> wasmtime::Result<PoolingAllocationConfig> {
        let Demand {
            instances,
            memories,
            tables,
            ..
        } = *demand;
        let (memories, tables) = (memories.max(1), tables.max(1));
        let size = self.limits.max_memory_bytes.max(MIN_INSTANCE_SIZE);
        let size = usize::try_from(size)?;
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
            .max_core_instances_per_component(CORE_INSTANCES)
            .max_component_instance_size(size)
            .max_core_instance_size(size)
            .total_memories(instances.saturating_mul(memories))
            .max_memories_per_component(memories)
            .max_memories_per_module(memories)
            .max_memory_size(usize::try_from(self.limits.max_memory_bytes)?)
            .total_tables(instances.saturating_mul(tables))
            .max_tables_per_component(tables)
            .max_tables_per_module(tables)
            .table_elements(usize::try_from(demand.table_elements)?)
            .total_stacks(demand.stacks);
        if PoolingAllocationConfig::is_pagemap_scan_available() {
            // Only if the kernel reports which pages were written (6.7 and later).
            // To zero all pages would cost more than to return them to the kernel.
            pool.pagemap_scan(Enabled::Auto)
                .linear_memory_keep_resident(MEMORY_KEPT)
                .table_keep_resident(TABLE_KEPT)
                .async_stack_keep_resident(STACK_KEPT);
        }
        Ok(pool)
    }
}
