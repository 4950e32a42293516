//! What the instances of one version take, and whether the system has it.

use super::plan::{Memories, SMALL_GUARD};
use super::system::Room;
use crate::guest::memory::TABLE_ELEMENT;
use bytesize::ByteSize;

/// The stack of a suspended call: the guest's part, and what the host needs above
/// it.
pub(super) const CALL_STACK: u64 = 1 << 20;

/// The largest share of the free address space that one version takes: an eighth
/// with memories of 4 GiB, a quarter with memories of their limit.
const UNCHECKED_SHARE: u64 = 8;
const BOUNDED_SHARE: u64 = 4;
/// The mappings of one slot in a pool: a stack with its guard page, which exist
/// from the beginning, and a memory with its guard. Measured, without copy-on-write
/// images, which would be two more.
const MAPPINGS_PER_STACK: u64 = 2;
const MAPPINGS_PER_MEMORY: u64 = 2;
/// Mappings and address space that the process may need besides: for threads, the
/// heap, code.
const MAPPINGS_TO_SPARE: u64 = 2000;
const ADDRESS_SPACE_TO_SPARE: u64 = 64 << 20;
/// How much memory an instance needs to work, beyond its initial memory.
const GROWTH: u64 = 1 << 20;

/// What the instances of one version take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// The most instances at once.
    pub(super) instances: u32,
    /// The most stacks at once. At least as many as instances.
    pub(super) stacks: u32,
    /// Instances of other versions that exist. All versions of a service together
    /// have at most as many as the service has permits.
    pub(super) live: u32,
    /// How many memories and tables one instance has.
    pub(super) memories: u32,
    pub(super) tables: u32,
    /// The initial size of the largest memory, in bytes.
    pub(super) initial_memory: u64,
    /// The largest size of one memory, in bytes.
    pub(super) max_memory: u64,
    /// The most elements of one table.
    pub(super) table_elements: u64,
    /// How many other versions exist in the process.
    pub(super) versions: usize,
}

/// The system has less room than the instances need.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    /// There are too few memory mappings. Without this check the process would fail
    /// while it serves, at some allocation of its own.
    #[error(
        "{instances} instances at once need about {needed} memory mappings, and the kernel allows \
         {allowed}, of which {used} are in use; lower --max-connections, or raise the limit: \
         sysctl -w vm.max_map_count={wanted}{}", old_versions(.versions)
    )]
    Mappings {
        instances: u32,
        needed: u64,
        allowed: u64,
        used: u64,
        wanted: u64,
        versions: usize,
    },
    /// There is too little address space.
    #[error(
        "{instances} instances at once need about {} of address space, and {} of {} are left; \
         {}lower --max-connections or --max-memory{}",
        ByteSize(*.needed), ByteSize(*.free), ByteSize(*.allowed),
        if *.limited { "raise the limit (ulimit -v), or " } else { "" },
        old_versions(.versions)
    )]
    AddressSpace {
        instances: u32,
        needed: u64,
        free: u64,
        allowed: u64,
        limited: bool,
        versions: usize,
    },
}

/// Advice on how to end versions that take room.
fn old_versions(versions: &usize) -> String {
    match versions {
        0 => String::new(),
        count => format!(
            "; other versions are there still ({count}, see `sockserve status`): a version ends \
             with its last connection, and at once if it is swapped with --old abort"
        ),
    }
}

impl Demand {
    /// Adds instances.
    pub(super) fn with(self, instances: u32) -> Self {
        Self {
            instances: self.instances.saturating_add(instances),
            stacks: self.stacks.saturating_add(instances),
            ..self
        }
    }

    /// Returns how many more instances may be made.
    fn expected(&self) -> u64 {
        u64::from(self.instances.saturating_sub(self.live))
    }

    /// Returns how many memories all instances have together.
    fn all_memories(&self) -> u64 {
        u64::from(self.instances) * u64::from(self.memories.max(1))
    }

    /// Returns the largest kind of memories that fits into its share.
    pub(super) fn memories(&self, room: &Room) -> Memories {
        let tables = u64::from(self.instances) * u64::from(self.tables) * TABLE_ELEMENT;
        let others = tables
            .saturating_mul(self.table_elements)
            .saturating_add(u64::from(self.stacks) * CALL_STACK);
        let fits = |memories: Memories, share: u64| {
            let slots = memories
                .slot(self.max_memory)
                .saturating_mul(self.all_memories());
            slots.saturating_add(others) <= room.free_address_space() / share
        };
        if fits(Memories::Unchecked, UNCHECKED_SHARE) {
            Memories::Unchecked
        } else if fits(Memories::Bounded, BOUNDED_SHARE) {
            Memories::Bounded
        } else {
            Memories::Moving
        }
    }

    /// Whether the next version would still fit without a pool when the whole pool
    /// of this one is in use.
    pub(super) fn pool_fits(&self, room: &Room) -> bool {
        let pool = MAPPINGS_PER_STACK * u64::from(self.stacks)
            + MAPPINGS_PER_MEMORY.saturating_mul(self.all_memories());
        let next = self
            .mappings_each()
            .saturating_mul(u64::from(self.instances));
        let wanted = pool.saturating_add(next).saturating_add(MAPPINGS_TO_SPARE);
        room.mappings_used.saturating_add(wanted) <= room.mappings
    }

    /// Returns the mappings of one instance without a pool. There each memory also
    /// has a guard before it.
    fn mappings_each(&self) -> u64 {
        MAPPINGS_PER_STACK + (MAPPINGS_PER_MEMORY + 1) * u64::from(self.memories.max(1))
    }

    /// Checks that there are enough mappings without a pool.
    pub(super) fn check_mappings(&self, room: &Room) -> Result<(), NoRoom> {
        let needed = self.mappings_each().saturating_mul(self.expected());
        let wanted = needed
            .saturating_add(room.mappings_used)
            .saturating_add(MAPPINGS_TO_SPARE);
        if wanted <= room.mappings {
            return Ok(());
        }
        Err(NoRoom::Mappings {
            instances: self.instances,
            needed,
            allowed: room.mappings,
            used: room.mappings_used,
            wanted,
            versions: self.versions,
        })
    }

    /// Checks that there is enough address space without a pool.
    pub(super) fn check_address_space(&self, room: &Room) -> Result<(), NoRoom> {
        let memory = self.initial_memory.saturating_add(GROWTH).min(
            // An instance has at most this much in all its memories together.
            self.max_memory,
        );
        let guards = u64::from(self.memories.max(1)) * 2 * SMALL_GUARD;
        let needed = (memory + guards + CALL_STACK)
            .saturating_mul(self.expected())
            .saturating_add(ADDRESS_SPACE_TO_SPARE);
        let free = room.free_address_space();
        if needed <= free {
            return Ok(());
        }
        Err(NoRoom::AddressSpace {
            instances: self.instances,
            needed,
            free,
            allowed: room.address_space,
            limited: room.limited,
            versions: self.versions,
        })
    }
}
