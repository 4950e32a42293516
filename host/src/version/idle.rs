//! The instances of a version that have served a connection and wait for the next one
//! (`--reuse`).
//!
//! A connection takes an idle instance before another one is made. So there are never more
//! instances than connections have been open at once, and an idle one takes nobody's place in
//! the pool. They end with the version's turn to take connections, and when somebody waits
//! for memory (`--max-memory-total`).

use crate::guest::memory::MemoryBook;
use crate::memory_total::Spare;
use crate::sync::lock;
use std::any::Any;
use std::sync::{Arc, Mutex, Weak};

/// Idle instances, of a type that their dispatch knows.
#[derive(Default)]
pub(crate) struct Idle(Mutex<Instances>);

#[derive(Default)]
struct Instances {
    all: Vec<Box<dyn Any + Send>>,
    /// Whether the version takes no more connections.
    is_closed: bool,
}

impl Idle {
    /// Takes the instance that became idle last. `None` if there is none.
    pub(crate) fn take<I: 'static>(&self) -> Option<I> {
        let instance = lock(&self.0).all.pop()?;
        instance.downcast().ok().map(|instance| *instance)
    }

    /// Keeps an instance for another connection, or drops it if there will be none, or if
    /// somebody waits for memory.
    pub(crate) fn put<I: Send + 'static>(self: &Arc<Self>, instance: I, memory: &MemoryBook) {
        let instance: Box<dyn Any + Send> = Box::new(instance);
        {
            let mut instances = lock(&self.0);
            if instances.is_closed {
                // Dropped when the lock is free.
                drop(instances);
                return;
            }
            instances.all.push(instance);
        }
        if let Some(total) = memory.total() {
            let idle = Arc::downgrade(self) as Weak<dyn Spare>;
            total.note_spare(idle);
        }
    }

    /// Drops all, and keeps no more.
    pub(super) fn close(&self) {
        let mut instances = lock(&self.0);
        instances.is_closed = true;
        let all = std::mem::take(&mut instances.all);
        drop(instances);
        drop(all);
    }
}

impl Spare for Idle {
    fn give_back(&self) -> bool {
        let all = std::mem::take(&mut lock(&self.0).all);
        !all.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory_total::{MemoryTotal, Reserved};

    fn counts(idle: &Idle) -> usize {
        lock(&idle.0).all.len()
    }

    #[test]
    fn the_last_one_comes_back_first_and_none_after_the_close() {
        let (idle, memory) = (Arc::new(Idle::default()), MemoryBook::default());
        assert_eq!(idle.take::<u8>(), None);
        idle.put(1_u8, &memory);
        idle.put(2_u8, &memory);
        assert_eq!(idle.take(), Some(2_u8));
        idle.close();
        assert_eq!(idle.take::<u8>(), None);
        idle.put(3_u8, &memory);
        assert_eq!(counts(&idle), 0);
    }

    #[tokio::test]
    async fn who_needs_memory_gets_that_of_idle_instances() {
        const SIZE: u64 = 64 << 10;
        let total = Arc::new(MemoryTotal::new(2 * SIZE));
        let memory = MemoryBook::new(Some(Arc::clone(&total)));
        let idle = Arc::new(Idle::default());
        let reserve = || total.try_reserve(SIZE);
        idle.put(reserve().unwrap(), &memory);
        let held = reserve().unwrap();
        // One that is idle has the memory that lacks.
        let taken = reserve().unwrap();
        assert_eq!(counts(&idle), 0);
        assert!(reserve().is_none());
        // None stays idle while somebody waits.
        let mut waiting = Box::pin(total.reserve(SIZE));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        idle.put::<Reserved>(held, &memory);
        assert_eq!(counts(&idle), 0);
        assert!(waiting.await.is_some());
        // After that they do.
        idle.put(taken, &memory);
        assert_eq!(counts(&idle), 1);
    }
}
