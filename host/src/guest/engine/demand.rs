//! What the instances of one version take, and whether the system has it.

use super::plan::{Memories, SMALL_GUARD};
use super::system::Room;
use crate::guest::TABLE_ELEMENT;
use bytesize::ByteSize;

/// The stack of a suspended call: the guest's and what the host needs above it.
pub(super) const CALL_STACK: u64 = 1 << 20;

/// The most of the free address space that one version takes with memories of
/// 4 GiB, and with memories of their limit.
const UNCHECKED_SHARE: u64 = 8;
const BOUNDED_SHARE: u64 = 4;
/// Mappings of one slot of a pool: a stack with its guard page, which are there
/// from the beginning, and a memory with what is behind it. Measured, and without
/// copy-on-write images, which are two more.
const MAPPINGS_PER_STACK: u64 = 2;
const MAPPINGS_PER_MEMORY: u64 = 2;
/// Mappings and address space that the process may need besides: threads, the
/// heap, code.
const MAPPINGS_TO_SPARE: u64 = 2000;
const ADDRESS_SPACE_TO_SPARE: u64 = 64 << 20;
/// What an instance needs to get along, beyond what it begins with.
const GROWTH: u64 = 1 << 20;

/// What the instances of one version take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// Instances at once.
    pub(super) instances: u32,
    /// Stacks at once: no fewer than instances.
    pub(super) stacks: u32,
    /// Instances that are there already, of other versions. A service has no more
    /// of them all together than it has permits.
    pub(super) live: u32,
    /// Memories and tables of one instance.
    pub(super) memories: u32,
    pub(super) tables: u32,
    /// What the largest memory begins with, in bytes.
    pub(super) initial_memory: u64,
    /// The most that one memory may have, in bytes.
    pub(super) max_memory: u64,
    /// The most elements of a table.
    pub(super) table_elements: u64,
    /// Versions in the process that are not over.
    pub(super) versions: usize,
}

/// The system has less than the instances need.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoRoom {
    /// Too few memory mappings. Without this check the process would fail in the
    /// middle of serving, at some allocation of its own.
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
    /// Too little address space.
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

/// How to get rid of versions that are in the way.
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
    /// Instances that may still come.
    fn expected(&self) -> u64 {
        u64::from(self.instances.saturating_sub(self.live))
    }

    fn all_memories(&self) -> u64 {
        u64::from(self.instances) * u64::from(self.memories.max(1))
    }

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

    /// Whether the next version would still fit without a pool when all of this
    /// one is in use.
    pub(super) fn pool_fits(&self, room: &Room) -> bool {
        let pool = MAPPINGS_PER_STACK * u64::from(self.stacks)
            + MAPPINGS_PER_MEMORY.saturating_mul(self.all_memories());
        let next = self
            .mappings_each()
            .saturating_mul(u64::from(self.instances));
        let wanted = pool.saturating_add(next).saturating_add(MAPPINGS_TO_SPARE);
        room.mappings_used.saturating_add(wanted) <= room.mappings
    }

    /// Mappings of an instance outside of a pool, where each memory has a guard
    /// before it as well.
    fn mappings_each(&self) -> u64 {
        MAPPINGS_PER_STACK + (MAPPINGS_PER_MEMORY + 1) * u64::from(self.memories.max(1))
    }

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

    pub(super) fn check_address_space(&self, room: &Room) -> Result<(), NoRoom> {
        let memory = self.initial_memory.saturating_add(GROWTH).min(
            // An instance has no more in all its memories together.
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
