//! The memory that the instances of all services may have together.

use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The size of a unit of memory, in bytes.
const UNIT: u64 = 64 << 10;

/// The memory that the instances of all services may have together.
#[derive(Debug)]
pub(crate) struct MemoryTotal {
    limit: u64,
    /// A permit per unit.
    units: Arc<Semaphore>,
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
        }
    }

    /// How many bytes that is.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Waits until there are so many bytes. Who came first gets them first. `None` if there
    /// never can be.
    pub(crate) async fn reserve(&self, bytes: u64) -> Option<Reserved> {
        let units = Arc::clone(&self.units).acquire_many_owned(units(bytes));
        units.await.ok().map(Reserved)
    }

    /// Takes so many bytes, if they are there.
    pub(crate) fn try_reserve(&self, bytes: u64) -> Option<Reserved> {
        let units = Arc::clone(&self.units).try_acquire_many_owned(units(bytes));
        units.ok().map(Reserved)
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
