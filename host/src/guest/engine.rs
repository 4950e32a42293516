//! How wasmtime is set up for one service.

use crate::contract::{Contract, Dispatch};
use crate::guest::clock;
use crate::guest::component::CoreCounts;
use crate::guest::handler::HandlerOptions;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// The stack that a guest may use, in bytes.
const WASM_STACK: usize = 512 << 10;
/// The stack of a suspended call: the guest's and what the host needs above it.
const CALL_STACK: usize = 1 << 20;

/// Address space for the memories of one version's guests. An eighth of what a
/// process has, because several versions may be there at once; nothing of it is
/// used before a guest touches it.
const ADDRESS_SPACE: u64 = 16 << 40;
/// What a memory is given if there is room: with 4 GiB and a guard behind it no
/// guest address needs a check.
const UNCHECKED_RESERVATION: u64 = 4 << 30;
const GUARD: u64 = 32 << 20;

/// The instances of a shared contract that exist at once: the one that serves,
/// and ones that are going.
const SHARED_INSTANCES: u32 = 4;

/// Stacks beyond one an instance, for `concurrent`: a guest that cancels a call of
/// the host's waits for that on its stack, while its store goes on with another.
/// It does so for no longer than its store is polled, so these are for the stores
/// that are being polled at once.
const SPARE_STACKS: u32 = 64;

/// The memory mappings of one instance: a stack with its guard, and a memory
/// with its initial image, its heap, and its guards.
const MAPPINGS_PER_INSTANCE: u64 = 2;
const MAPPINGS_PER_MEMORY: u64 = 4;
/// Those that the process may need besides.
const MAPPINGS_TO_SPARE: u64 = 2000;

/// The kernel gives a process fewer memory mappings than the instances need.
///
/// Without this check the process would fail in the middle of serving, at some
/// allocation of its own.
#[derive(Debug, thiserror::Error)]
#[error(
    "{instances} instances at once need about {needed} memory mappings, and the kernel allows \
     {allowed}; lower --max-connections, or raise the limit: sysctl -w vm.max_map_count={needed}"
)]
pub(super) struct TooManyMappings {
    instances: u32,
    needed: u64,
    allowed: u64,
}

fn check_mappings(
    instances: u32,
    memories: u32,
    in_use: u64,
    allowed: u64,
) -> Result<(), TooManyMappings> {
    let needed = in_use
        + MAPPINGS_TO_SPARE
        + MAPPINGS_PER_INSTANCE * u64::from(instances)
        + MAPPINGS_PER_MEMORY * u64::from(memories);
    if needed > allowed {
        return Err(TooManyMappings {
            instances,
            needed,
            allowed,
        });
    }
    Ok(())
}

/// Those of the process, with the instances of other versions: a swap has both
/// at once. None where the system does not say.
fn mappings_in_use() -> u64 {
    let lines = std::fs::read("/proc/self/maps")
        .map_or(0, |text| text.iter().filter(|byte| **byte == b'\n').count());
    lines as u64
}

/// What the kernel allows; without limit where it does not say.
fn allowed_mappings() -> u64 {
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(u64::MAX)
}

pub(super) fn engine(
    contract: Contract,
    options: &HandlerOptions,
    core: CoreCounts,
) -> wasmtime::Result<Engine> {
    let HandlerOptions {
        dispatch, limits, ..
    } = options;
    let instances = match dispatch {
        _ if dispatch.shares_instance(contract) => SHARED_INSTANCES,
        // The next one may begin before the last one is gone.
        Dispatch::Sequential => 2,
        Dispatch::Threaded | Dispatch::Poll => limits.max_connections,
    };
    let memories = instances.saturating_mul(core.memories.max(1));
    let stacks = match contract {
        Contract::Concurrent => instances.saturating_add(SPARE_STACKS),
        Contract::Blocking | Contract::Evented => instances,
    };
    check_mappings(instances, memories, mappings_in_use(), allowed_mappings())?;
    let max_memory = usize::try_from(limits.max_memory_bytes)?;

    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(core.instances.max(1)))
        .max_core_instances_per_component(core.instances.max(1))
        .total_memories(memories)
        .max_memories_per_component(core.memories.max(1))
        .total_tables(instances.saturating_mul(core.tables.max(1)))
        .max_tables_per_component(core.tables.max(1))
        .total_stacks(stacks)
        .max_memory_size(max_memory);

    let mut config = Config::new();
    config
        .cache(options.cache.as_ref().map(|it| it.cache.clone()))
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_reservation(reservation(limits.max_memory_bytes, memories))
        .memory_guard_size(GUARD)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(CALL_STACK)
        .epoch_interruption(true)
        .gc_support(false)
        .wasm_threads(false)
        // 0.2 handlers have no use for the machinery of 0.3, which costs them
        // about 5 %.
        .wasm_component_model_async(contract == Contract::Concurrent)
        .concurrency_support(contract == Contract::Concurrent);
    let engine = Engine::new(&config)?;
    clock::tick(&engine)?;
    Ok(engine)
}

/// The address space of one memory.
fn reservation(max_memory_bytes: u64, memories: u32) -> u64 {
    let share = ADDRESS_SPACE / u64::from(memories.max(1));
    if share >= UNCHECKED_RESERVATION + GUARD {
        UNCHECKED_RESERVATION
    } else {
        max_memory_bytes.next_multiple_of(64 << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_mappings_than_the_kernel_allows_are_refused_with_what_would_do() {
        assert!(check_mappings(10_000, 10_000, 0, 65_530).is_ok());
        assert!(check_mappings(10_000, 10_000, 10_000, 65_530).is_err());
        let error = check_mappings(20_000, 20_000, 0, 65_530).unwrap_err();
        assert_eq!(
            error.to_string(),
            "20000 instances at once need about 122000 memory mappings, and the kernel allows \
             65530; lower --max-connections, or raise the limit: sysctl -w vm.max_map_count=122000"
        );
    }

    #[test]
    fn many_memories_get_less_address_space_each() {
        assert_eq!(reservation(64 << 20, 1024), UNCHECKED_RESERVATION);
        assert_eq!(reservation(64 << 20, 4000), UNCHECKED_RESERVATION);
        assert_eq!(reservation(64 << 20, 10_000), 64 << 20);
        assert_eq!(reservation(1, 10_000), 64 << 10);
    }
}
