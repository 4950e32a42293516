//! Limits over all services of a process.

use std::num::NonZeroU32;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Limits that several services share.
#[derive(Debug)]
pub struct GlobalLimits {
    /// One permit is taken for each connection of any service.
    pub(super) connections: Arc<Semaphore>,
}

impl GlobalLimits {
    /// Makes the limits: so many connections may be open in all services together. At the
    /// limit every service stops accepting.
    pub fn new(max_connections_total: NonZeroU32) -> Arc<Self> {
        Arc::new(Self {
            connections: Arc::new(Semaphore::new(max_connections_total.get() as usize)),
        })
    }
}
