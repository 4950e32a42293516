//! Instances: what a guest is given, what it may use, and how it ends.
//!
//! | file | |
//! | --- | --- |
//! | `handler` | a component compiled, checked and ready to instantiate |
//! | `imports` | what the host has of what a component imports |
//! | `engine` | how wasmtime is set up for a version, and what room it takes |
//! | `code` | a component's compiled code |
//! | `exports` | a file per contract: bindings, lookup, calls |
//! | `grants` | what a guest may do beyond its connections |
//! | `hand_over` | the calls that pass a connection on |
//! | `draining` | how a guest learns that it is to do so |
//! | `roster` | the connections of an instance |
//! | `clock` | guest time and its deadline |
//! | `deadline` | calls that must not wait |
//! | `stdio` | a guest's output, in the log |
//! | `aside` | engines dropped off the event loops |
//! | `failure` | how an instance or a connection failed, and whose fault it is |

mod aside;
pub(crate) mod clock;
mod code;
pub(crate) mod deadline;
mod draining;
mod engine;
pub(crate) mod exports;
pub(crate) mod failure;
pub(crate) mod grants;
pub(crate) mod hand_over;
pub(crate) mod handler;
pub(crate) mod imports;
pub(crate) mod roster;
pub(crate) mod stdio;

use crate::guest::engine::InstanceToken;
use crate::guest::failure::MemoryExceeded;
use crate::guest::roster::Roster;
use crate::sockets::SocketsStore;
use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// What an instance's store holds.
pub(crate) struct State {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    memory: MemoryLimit,
    roster: Roster,
    /// It counts as an instance that is there.
    _instance: InstanceToken,
}

impl State {
    fn new(wasi: WasiCtx, memory: MemoryLimit, max_resources: usize, roster: Roster) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(max_resources);
        Self {
            wasi,
            table,
            memory,
            roster,
            _instance: InstanceToken::new(),
        }
    }
}

impl SocketsStore for State {
    fn wasi_sockets(&mut self) -> WasiSocketsCtxView<'_> {
        WasiSocketsView::sockets(self)
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// Traps an instance that asks for more memory than it may have, in its memories
/// and its tables together.
///
/// A `memory.grow` that merely fails would be reported by most guests as an
/// abort without a reason; the trap names it.
struct MemoryLimit {
    max_memory_bytes: u64,
    /// The most elements of a table.
    max_table_elements: usize,
    used: u64,
    last_growth: u64,
}

/// What an element of a table takes, in bytes.
const TABLE_ELEMENT: u64 = 8;

impl MemoryLimit {
    fn new(max_memory_bytes: u64, max_table_elements: usize) -> Self {
        Self {
            max_memory_bytes,
            max_table_elements,
            used: 0,
            last_growth: 0,
        }
    }

    fn grow(&mut self, growth: u64) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(growth);
        if used > self.max_memory_bytes {
            return Err(MemoryExceeded(self.max_memory_bytes).into());
        }
        self.used = used;
        self.last_growth = growth;
        Ok(true)
    }

    fn growth_failed(&mut self) {
        self.used = self
            .used
            .saturating_sub(std::mem::take(&mut self.last_growth));
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
