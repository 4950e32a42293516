//! How much address space and how many memory mappings an engine may take.
//!
//! These are not memory; they are what the kernel counts. A pool takes its address
//! space when it is made, and keeps it until its last instance is gone. A service
//! can have many versions at once: the current one, the one before, and those with
//! open connections. So each version takes a share of what is left. The less is
//! left, the less a version takes:
//!
//! | memories | address space per memory | guest addresses |
//! | --- | --- | --- |
//! | [`Unchecked`](Memories::Unchecked) | 4 GiB | need no checks |
//! | [`Bounded`](Memories::Bounded) | `max_memory_bytes` | are checked |
//! | [`Moving`](Memories::Moving) | as much as is in use | are checked, and a memory moves when it grows |
//!
//! If a pool does not fit, each instance gets its memory and its stack when it is
//! made, which takes longer. Then only instances that exist cost anything. The
//! permits of the service limit how many exist, in all versions together.

use super::demand::{Demand, NoRoom};
use super::system::Room;

/// The address space of a memory whose addresses need no checks, without its guard.
const UNCHECKED: u64 = 4 << 30;
/// The guard behind each memory.
const GUARD: u64 = 32 << 20;
/// The guard behind each memory whose addresses are checked and that moves.
pub(super) const SMALL_GUARD: u64 = 64 << 10;
pub(super) const PAGE: u64 = 64 << 10;

/// How much address space a memory gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Memories {
    Moving,
    Bounded,
    Unchecked,
}

/// What kind of memories an engine has, and whether it has a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) memories: Memories,
    /// Whether the engine has a pool.
    pub(super) pooled: bool,
}

impl Memories {
    /// Returns the address space of one memory, without its guard.
    pub(super) fn reservation(self, max_memory: u64) -> u64 {
        match self {
            Self::Unchecked => UNCHECKED,
            Self::Bounded => max_memory.div_ceil(PAGE).saturating_mul(PAGE),
            Self::Moving => 0,
        }
    }

    /// Returns the size of the guard behind a memory.
    pub(super) fn guard(self) -> u64 {
        match self {
            Self::Unchecked | Self::Bounded => GUARD,
            Self::Moving => SMALL_GUARD,
        }
    }

    /// Returns the address space of one memory with its guard.
    pub(super) fn slot(self, max_memory: u64) -> u64 {
        self.reservation(max_memory).saturating_add(self.guard())
    }
}

impl Plan {
    /// The first plan to try.
    pub(super) const LARGEST: Self = Self {
        memories: Memories::Unchecked,
        pooled: true,
    };

    /// Returns the next plan to try, if the system refused this one.
    pub(super) fn smaller(self) -> Option<Self> {
        match (self.memories, self.pooled) {
            (Memories::Unchecked, pooled) => Some(Self {
                memories: Memories::Bounded,
                pooled,
            }),
            (Memories::Bounded, _) | (Memories::Moving, true) => Some(Self {
                memories: Memories::Moving,
                pooled: false,
            }),
            (Memories::Moving, false) => None,
        }
    }

    /// Returns the largest plan that fits and is not larger than `most`.
    pub(super) fn decide(demand: &Demand, room: &Room, most: Self) -> Result<Self, NoRoom> {
        let memories = demand.memories(room).min(most.memories);
        let pooled = most.pooled && memories != Memories::Moving && demand.pool_fits(room);
        if !pooled {
            demand.check_mappings(room)?;
            demand.check_address_space(room)?;
        }
        Ok(Self { memories, pooled })
    }
}

#[cfg(test)]
mod tests {
    use super::super::demand::CALL_STACK;
    use super::*;

    const ROOM: Room = Room {
        address_space: 1 << 47,
        address_space_used: 1 << 30,
        limited: false,
        mappings: 65_530,
        mappings_used: 300,
    };

    fn demand(instances: u32) -> Demand {
        Demand {
            instances,
            stacks: instances,
            live: 0,
            memories: 1,
            tables: 1,
            initial_memory: 17 * PAGE,
            max_memory: 64 << 20,
            table_elements: 20_000,
            versions: 0,
        }
    }

    fn decide(demand: Demand, room: Room) -> Result<Plan, NoRoom> {
        Plan::decide(&demand, &room, Plan::LARGEST)
    }

    #[test]
    fn the_less_there_is_the_less_is_taken() {
        let plan = |memories, pooled| Ok(Plan { memories, pooled });
        assert_eq!(decide(demand(1024), ROOM), plan(Memories::Unchecked, true));
        let many = Demand {
            memories: 2,
            ..demand(2500)
        };
        assert_eq!(decide(many, ROOM), plan(Memories::Bounded, true));
        // A second pool of that size would not fit.
        assert_eq!(decide(demand(10_000), ROOM), plan(Memories::Bounded, false));
        let narrow = Room {
            address_space: 1 << 38,
            ..ROOM
        };
        assert_eq!(decide(demand(100), narrow), plan(Memories::Bounded, true));
        assert_eq!(decide(demand(1024), narrow), plan(Memories::Moving, false));
        // `sequential` has two instances.
        assert_eq!(decide(demand(2), narrow), plan(Memories::Unchecked, true));
    }

    /// A version that could start can be replaced, whatever earlier versions keep.
    #[test]
    fn what_starts_can_be_swapped() {
        for instances in (1..=20_000).step_by(97) {
            let demand = demand(instances);
            let Ok(first) = decide(demand, ROOM) else {
                assert!(instances > 12_000, "{instances}");
                continue;
            };
            let all = u64::from(instances);
            let mut room = ROOM;
            // As if all connections were open at some time, and no pool shrank.
            for version in 0..3 {
                let plan = decide(demand, room);
                let plan = plan.unwrap_or_else(|error| panic!("{version}, {first:?}: {error}"));
                if plan.pooled {
                    room.mappings_used += 4 * all;
                }
            }
            // And with all of them open on a version without a pool.
            let busy = Room {
                mappings_used: room.mappings_used + if first.pooled { 0 } else { 5 * all },
                ..room
            };
            let demand = Demand {
                live: instances,
                ..demand
            };
            assert!(decide(demand, busy).is_ok(), "{instances}");
        }
    }

    /// Retired versions that keep one connection each.
    #[test]
    fn many_versions_fit() {
        let mut room = ROOM;
        for version in 0..200 {
            let demand = Demand {
                live: version,
                ..demand(1024)
            };
            let plan = decide(demand, room).unwrap();
            if plan.pooled {
                room.mappings_used += 2 * 1024 + 2;
                let slot = plan.memories.slot(64 << 20);
                room.address_space_used += 1024 * (slot + CALL_STACK);
            } else {
                room.mappings_used += 5;
                room.address_space_used += 70 << 20;
            }
            room.mappings_used += 10;
            assert!(room.mappings_used < room.mappings, "{version}");
        }
    }

    #[test]
    fn a_refusal_says_what_would_do() {
        let error = decide(demand(20_000), ROOM).unwrap_err();
        assert_eq!(
            error.to_string(),
            "20000 instances at once need about 100000 memory mappings, and the kernel allows \
             65530, of which 300 are in use; lower --max-connections, or raise the limit: sysctl \
             -w vm.max_map_count=102300"
        );
        let limited = Room {
            address_space: 1 << 30,
            address_space_used: 100 << 20,
            limited: true,
            ..ROOM
        };
        let old = Demand {
            versions: 2,
            ..demand(1024)
        };
        let text = decide(old, limited).unwrap_err().to_string();
        for part in [
            "1024 instances",
            "ulimit -v",
            "--max-connections",
            "--max-memory",
            "other versions are there still (2,",
            "--old abort",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(decide(demand(100), limited).is_ok());
    }

    #[test]
    fn what_the_system_refused_is_tried_smaller() {
        let mut plan = Plan::LARGEST;
        let mut tried = vec![plan];
        while let Some(smaller) = plan.smaller() {
            plan = smaller;
            tried.push(plan);
        }
        let plans: Vec<_> = tried.iter().map(|it| (it.memories, it.pooled)).collect();
        assert_eq!(
            plans,
            [
                (Memories::Unchecked, true),
                (Memories::Bounded, true),
                (Memories::Moving, false)
            ]
        );
    }
}
