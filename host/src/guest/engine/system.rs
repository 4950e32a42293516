//! The address space and the memory mappings that the system gives the process.

use rustix::process::{Resource, getrlimit};

/// What the process may have and what it uses. If the system names no limit, there
/// is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    /// Bytes of address space that the process may have, and bytes that are in use.
    pub(super) address_space: u64,
    pub(super) address_space_used: u64,
    /// Whether `ulimit -v` is the reason that there is no more address space.
    pub(super) limited: bool,
    /// Memory mappings that the process may have, and mappings that are in use.
    pub(super) mappings: u64,
    pub(super) mappings_used: u64,
}

impl Room {
    /// Returns the room now. It includes what other versions hold, because during a
    /// swap there are two.
    pub(super) fn now() -> Self {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let allowed = getrlimit(Resource::As).current;
        let count = std::fs::read_to_string("/proc/sys/vm/max_map_count");
        let count = count.ok().and_then(|text| text.trim().parse().ok());
        Self::of(&maps, allowed, count)
    }

    fn of(maps: &str, allowed: Option<u64>, max_mappings: Option<u64>) -> Self {
        let mut used = 0_u64;
        let mut lines = 0;
        let mut highest = 0;
        for line in maps.lines() {
            lines += 1;
            let Some((start, end)) = range(line) else {
                continue;
            };
            // A page of the kernel's own, in the upper half. It does not count.
            if end > u64::MAX / 2 {
                continue;
            }
            used = used.saturating_add(end.saturating_sub(start));
            highest = highest.max(end);
        }
        // The stack of the first thread is at the upper end of the address space
        // that the processor and the kernel have: 39 bits on small machines, 47 or
        // 48 on others.
        let whole = match highest {
            0 => u64::MAX,
            highest => highest.checked_next_power_of_two().unwrap_or(u64::MAX),
        };
        Self {
            address_space: allowed.map_or(whole, |allowed| allowed.min(whole)),
            address_space_used: used,
            limited: allowed.is_some_and(|allowed| allowed < whole),
            mappings: max_mappings.unwrap_or(u64::MAX),
            mappings_used: lines,
        }
    }

    pub(super) fn free_address_space(&self) -> u64 {
        self.address_space.saturating_sub(self.address_space_used)
    }
}

/// Returns the addresses in a line of `/proc/self/maps`.
fn range(line: &str) -> Option<(u64, u64)> {
    let (start, rest) = line.split_once('-')?;
    let end = rest.split(' ').next()?;
    let number = |text| u64::from_str_radix(text, 16).ok();
    Some((number(start)?, number(end)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
        00001000-00003000 r-xp 00000000 00:00 0 /bin/x\n\
        7ffc00000000-7ffc00001000 rw-p 00000000 00:00 0 [stack]\n\
        ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n";

    #[test]
    fn room_is_read_from_what_the_kernel_says() {
        let room = Room::of(MAPS, None, Some(65_530));
        assert_eq!(room.address_space, 1 << 47);
        assert_eq!(room.address_space_used, 0x3000);
        assert!(!room.limited);
        assert_eq!((room.mappings, room.mappings_used), (65_530, 3));
    }

    #[test]
    fn a_limit_counts_where_it_is_the_lesser() {
        let room = Room::of(MAPS, Some(1 << 30), None);
        assert_eq!(room.address_space, 1 << 30);
        assert_eq!(room.free_address_space(), (1 << 30) - 0x3000);
        assert!(room.limited);
        assert_eq!(room.mappings, u64::MAX);
        // A machine with fewer address bits.
        let room = Room::of("3fff000000-3fff001000 rw-p", None, None);
        assert_eq!(room.address_space, 1 << 38);
    }

    #[test]
    fn where_nothing_is_said_nothing_is_limited() {
        let room = Room::of("", None, None);
        assert_eq!(room.free_address_space(), u64::MAX);
        assert_eq!(room.mappings, u64::MAX);
    }

    #[test]
    fn this_process_has_mappings_and_addresses() {
        let room = Room::now();
        assert!(
            room.mappings_used > 0 && room.address_space_used > 0,
            "{room:?}"
        );
        assert!(room.free_address_space() > 0, "{room:?}");
    }
}
