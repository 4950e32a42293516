//! How much memory instances have asked for: each of them, those of a service together, and
//! those of all services together.
//!
//! An instance that asks for more than it may have traps, in its memories and tables
//! together. If `memory.grow` only failed, most guests would abort without a reason; the trap
//! names the reason.
//!
//! The memory of all services has a limit only if one was asked for (`MemoryTotal`). An
//! instance of one connection waits until there is room for what it begins with; one that
//! serves all, or that grows, fails if there is no room.

use crate::guest::failure::{MemoryExceeded, NoMemoryLeft};
use crate::memory_total::{MemoryTotal, Reserved};
use crate::sync::lock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wasmtime::ResourceLimiter;

/// The size of a table's element, in bytes.
pub(super) const TABLE_ELEMENT: u64 = 8;

/// The least time between two lines of the log that say that instances wait.
const QUIET: Duration = Duration::from_secs(60);

/// What the instances of a service have.
#[derive(Debug, Default)]
pub(crate) struct MemoryBook {
    instances: AtomicU64,
    bytes: AtomicU64,
    /// What all services may have together. `None` if there is no limit.
    total: Option<Arc<MemoryTotal>>,
    /// When the log last said that instances wait.
    told: Mutex<Option<Instant>>,
}

impl MemoryBook {
    pub(crate) fn new(total: Option<Arc<MemoryTotal>>) -> Self {
        Self {
            total,
            ..Self::default()
        }
    }

    /// Instances that are alive.
    pub(crate) fn instances(&self) -> u64 {
        self.instances.load(Ordering::Relaxed)
    }

    /// What they have asked for, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What all services may have together. `None` if there is no limit.
    pub(crate) fn total(&self) -> Option<&MemoryTotal> {
        self.total.as_deref()
    }

    /// Waits until all services together have room for an instance that begins with so
    /// many bytes.
    pub(crate) async fn reserve(&self, service: &str, bytes: u64) -> Option<Reserved> {
        let total = self.total.as_ref()?;
        if let Some(reserved) = total.try_reserve(bytes) {
            return Some(reserved);
        }
        self.tell(service, total.limit());
        total.reserve(bytes).await
    }

    /// Says in the log that an instance waits, but not each time.
    fn tell(&self, service: &str, limit: u64) {
        let now = Instant::now();
        let mut told = lock(&self.told);
        if told.is_some_and(|told| now.saturating_duration_since(told) < QUIET) {
            return;
        }
        *told = Some(now);
        let limit = bytesize::ByteSize(limit);
        tracing::warn!(
            service,
            "there is no memory left for another instance (--max-memory-total is {limit}); \
             connections wait until others end"
        );
    }
}

/// Counts the memory of one instance, and limits it.
pub(super) struct MemoryLimit {
    max_memory_bytes: u64,
    /// The most elements of one table.
    max_table_elements: usize,
    used: u64,
    /// To take back, if the growth fails after it was granted.
    last_growth: u64,
    /// The service's.
    book: Arc<MemoryBook>,
    /// What this instance has of the memory of all services. At least `used`, if that is
    /// limited.
    reserved: Option<Reserved>,
}

impl MemoryLimit {
    pub(super) fn new(
        max_memory_bytes: u64,
        max_table_elements: usize,
        book: Arc<MemoryBook>,
    ) -> Self {
        book.instances.fetch_add(1, Ordering::Relaxed);
        Self {
            max_memory_bytes,
            max_table_elements,
            used: 0,
            last_growth: 0,
            book,
            reserved: None,
        }
    }

    /// How many bytes it may have.
    pub(super) fn limit(&self) -> u64 {
        self.max_memory_bytes
    }

    /// How many bytes it has.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Whether there is room for `more` instances like this one, which each have as much as
    /// it has now. An error says what lacks.
    pub(super) fn check_room_for(&self, more: usize) -> Result<(), String> {
        let Some(total) = &self.book.total else {
            return Ok(());
        };
        let has_room = total.try_reserve_many(self.used, more).is_some();
        if has_room {
            return Ok(());
        }
        let (instances, used, limit) = (more.saturating_add(1), self.used, total.limit());
        Err(format!(
            "no memory left for {instances} instances of {used} bytes, one per event loop: those \
             of all services may have {limit} bytes together (--max-memory-total)"
        ))
    }

    /// Uses what was reserved for the instance, before it has anything.
    pub(super) fn begin_with(&mut self, reserved: Option<Reserved>) {
        self.reserved = reserved;
    }

    /// Grants a growth, or fails with the trap.
    fn grow(&mut self, growth: u64) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(growth);
        if used > self.max_memory_bytes {
            return Err(MemoryExceeded(self.max_memory_bytes).into());
        }
        if let Some(total) = &self.book.total {
            let has_room = match &mut self.reserved {
                Some(reserved) => reserved.try_extend(total, used),
                nothing => {
                    *nothing = total.try_reserve(used);
                    nothing.is_some()
                }
            };
            if !has_room {
                let (wanted, limit) = (used, total.limit());
                return Err(NoMemoryLeft { wanted, limit }.into());
            }
        }
        self.used = used;
        self.last_growth = growth;
        self.book.bytes.fetch_add(growth, Ordering::Relaxed);
        Ok(true)
    }

    /// Takes the last growth back. What it had reserved is kept for the next one.
    fn growth_failed(&mut self) {
        let growth = std::mem::take(&mut self.last_growth);
        self.used = self.used.saturating_sub(growth);
        self.book.bytes.fetch_sub(growth, Ordering::Relaxed);
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        self.book.bytes.fetch_sub(self.used, Ordering::Relaxed);
        self.book.instances.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(desired.saturating_sub(current) as u64)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.growth_failed();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.max_table_elements {
            return Ok(false);
        }
        let growth = desired.saturating_sub(current) as u64;
        self.grow(growth.saturating_mul(TABLE_ELEMENT))
    }

    fn table_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.growth_failed();
        Ok(())
    }
}
