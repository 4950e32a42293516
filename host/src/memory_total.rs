//! The memory that the instances of all services may have together.

use crate::sync::lock;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The size of a unit of memory, in bytes.
const UNIT: u64 = 64 << 10;

/// The memory that the instances of all services may have together.
#[derive(Debug)]
pub(crate) struct MemoryTotal {
    limit: u64,
    /// A permit per unit.
    units: Arc<Semaphore>,
    /// How many wait for memory.
    waiting: AtomicUsize,
    /// Who may hold memory that can be done without.
    spares: Mutex<Vec<Weak<dyn Spare>>>,
}

/// What holds memory that can be done without.
pub(crate) trait Spare: Send + Sync {
    /// Gives it back. Returns whether there was any.
    fn give_back(&self) -> bool;
}

impl fmt::Debug for dyn Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spare")
    }
}

/// A part of this memory. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Reserved(OwnedSemaphorePermit);

impl MemoryTotal {
    pub(crate) fn new(limit: u64) -> Self {
        let units = usize::try_from(limit.div_ceil(UNIT)).unwrap_or(usize::MAX);
        let units = Semaphore::new(units.min(Semaphore::MAX_PERMITS));
        Self {
            limit,
            units: Arc::new(units),
            waiting: AtomicUsize::new(0),
            spares: Mutex::default(),
        }
    }

    /// How many bytes that is.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Waits until there are so many bytes. Who came first gets them first. `None` if there
    /// never can be.
    pub(crate) async fn reserve(&self, bytes: u64) -> Option<Reserved> {
        let _waiting = Waiting::new(&self.waiting);
        // What became spare since the caller has tried.
        self.reclaim();
        let units = Arc::clone(&self.units).acquire_many_owned(units(bytes));
        units.await.ok().map(Reserved)
    }

    /// Takes so many bytes, if they are there, or if those are enough that can be done
    /// without.
    pub(crate) fn try_reserve(&self, bytes: u64) -> Option<Reserved> {
        self.try_reserve_many(bytes, 1)
    }

    /// Takes so many bytes for each of some instances, in the same way.
    pub(crate) fn try_reserve_many(&self, bytes: u64, instances: usize) -> Option<Reserved> {
        let instances = u32::try_from(instances).unwrap_or(u32::MAX);
        let units = units(bytes).saturating_mul(instances);
        let take = || Arc::clone(&self.units).try_acquire_many_owned(units);
        let taken = take().or_else(|none| if self.reclaim() { take() } else { Err(none) });
        taken.ok().map(Reserved)
    }

    /// Remembers who holds memory that can be done without, until it is needed; that is now
    /// if somebody waits.
    pub(crate) fn note_spare(&self, spare: Weak<dyn Spare>) {
        {
            let mut spares = lock(&self.spares);
            spares.retain(|it| it.strong_count() > 0);
            if !spares.iter().any(|it| it.ptr_eq(&spare)) {
                spares.push(spare);
            }
        }
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.reclaim();
        }
    }

    /// Takes back what can be done without. Returns whether there was any.
    fn reclaim(&self) -> bool {
        let spares = std::mem::take(&mut *lock(&self.spares));
        let mut any = false;
        for spare in spares.iter().filter_map(Weak::upgrade) {
            any |= spare.give_back();
        }
        any
    }
}

/// Counts one who waits, for as long as this exists.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Reserved {
    /// Takes what lacks to so many bytes in all, if it is there.
    pub(crate) fn try_extend(&mut self, total: &MemoryTotal, bytes: u64) -> bool {
        let held = self.0.num_permits() as u64;
        let lacking = (u64::from(units(bytes))).saturating_sub(held);
        if lacking == 0 {
            return true;
        }
        match total.try_reserve(lacking * UNIT) {
            Some(more) => {
                self.0.merge(more.0);
                true
            }
            None => false,
        }
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_is_given_in_turn_and_comes_back() {
        let total = MemoryTotal::new(4 * UNIT);
        let mut one = total.try_reserve(1).unwrap();
        assert!(one.try_extend(&total, UNIT));
        assert!(one.try_extend(&total, 3 * UNIT - 1));
        let _last = total.try_reserve(UNIT).unwrap();
        assert!(!one.try_extend(&total, 3 * UNIT + 1));
        assert!(total.try_reserve(1).is_none());
        let mut waiting = Box::pin(total.reserve(2 * UNIT));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(one);
        assert!(waiting.await.is_some());
    }
}
