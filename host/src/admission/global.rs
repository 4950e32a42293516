//! Limits over all services of a process.

use crate::memory_total::MemoryTotal;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Limits that several services share. At a limit peers wait: for connections with the
/// kernel, for memory after they were accepted.
#[derive(Debug)]
pub struct GlobalLimits {
    /// One permit is taken for each connection of any service. `None` if there is no limit.
    pub(super) connections: Option<Arc<Semaphore>>,
    memory: Option<Arc<MemoryTotal>>,
}

impl GlobalLimits {
    /// Makes the limits: how many connections may be open in all services together, and how
    /// many bytes their instances may have, in their memories and tables. `None` is without
    /// limit. Memory is counted in units of 64 KiB per instance, and less than one unit
    /// counts as one.
    pub fn new(
        max_connections_total: Option<NonZeroU32>,
        max_memory_total: Option<NonZeroU64>,
    ) -> Arc<Self> {
        let connections = max_connections_total.map(|most| Semaphore::new(most.get() as usize));
        Arc::new(Self {
            connections: connections.map(Arc::new),
            memory: max_memory_total.map(|most| Arc::new(MemoryTotal::new(most.get()))),
        })
    }

    /// What the instances of all services may have.
    pub(crate) fn memory(&self) -> Option<&Arc<MemoryTotal>> {
        self.memory.as_ref()
    }
}
