//! Instances: what a guest is given, what it may use, and how it ends.
//!
//! | file | |
//! | --- | --- |
//! | `reading` | a component file's bytes, whatever its path names |
//! | `component` | what a component file is, without compiling it |
//! | `handler` | a component compiled, checked and ready to instantiate |
//! | `engine` | how wasmtime is set up for a service |
//! | `cache` | compiled components on disk |
//! | `bindings` | the contracts, generated from `wit/` |
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
pub(crate) mod bindings;
pub(crate) mod cache;
pub(crate) mod clock;
pub(crate) mod component;
pub(crate) mod deadline;
mod draining;
mod engine;
pub(crate) mod failure;
pub(crate) mod grants;
pub(crate) mod hand_over;
pub(crate) mod handler;
pub(crate) mod reading;
pub(crate) mod roster;
pub(crate) mod stdio;

use crate::guest::failure::MemoryExceeded;
use crate::guest::roster::Roster;
use crate::sockets::SocketsView;
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
}

impl State {
    fn new(wasi: WasiCtx, max_memory_bytes: u64, max_resources: usize, roster: Roster) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(max_resources);
        Self {
            wasi,
            table,
            memory: MemoryLimit {
                max_memory_bytes,
                used: 0,
                last_growth: 0,
            },
            roster,
        }
    }

    /// The sockets that the guest sees.
    pub(crate) fn sockets(&mut self) -> SocketsView<'_> {
        SocketsView(self.wasi_sockets())
    }

    /// The sockets that the guest created itself.
    pub(crate) fn wasi_sockets(&mut self) -> WasiSocketsCtxView<'_> {
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

/// Traps an instance that asks for more memory than it may have.
///
/// A `memory.grow` that merely fails would be reported by most guests as an
/// abort without a reason; the trap names it.
struct MemoryLimit {
    max_memory_bytes: u64,
    /// Of all memories of the instance.
    used: u64,
    last_growth: u64,
}

/// The most elements of a table. The same as wasmtime's pooling default.
const MAX_TABLE_ELEMENTS: usize = 20_000;

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let growth = desired.saturating_sub(current) as u64;
        let used = self.used.saturating_add(growth);
        if used > self.max_memory_bytes {
            return Err(MemoryExceeded(self.max_memory_bytes).into());
        }
        self.used = used;
        self.last_growth = growth;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> wasmtime::Result<()> {
        self.used = self
            .used
            .saturating_sub(std::mem::take(&mut self.last_growth));
        Ok(())
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }
}
