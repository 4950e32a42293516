//! Instances: what a guest is given, what it may use, and how it ends.
//!
//! | file | |
//! | --- | --- |
//! | `handler` | a component that is compiled, checked, and ready to instantiate |
//! | `handler_error` | why a component cannot be one |
//! | `imports` | which of a component's imports the host provides |
//! | `engine` | how wasmtime is set up for a version, and what room it takes |
//! | `code` | a component's compiled code |
//! | `loaded` | the code of the versions that exist |
//! | `precompile` | a component that is compiled ahead of a service |
//! | `start_cost` | what each connection costs because of its instance |
//! | `exports` | one file per contract: bindings, lookup, calls |
//! | `grants` | what a guest may do beyond its connections |
//! | `hand_over` | the calls that give a connection up and accept it |
//! | `instance` | an instance that serves all, and one that is made ahead |
//! | `memory` | what instances have asked for, and may |
//! | `room` | how large the state in the result of a call may be |
//! | `instance_state` | the calls that save what an instance knows, and restore it |
//! | `life_cycle` | the calls of `verify`, `error` and `tick` |
//! | `draining` | how a guest learns that it is to give connections up |
//! | `connection_info` | how a guest learns who its peer is |
//! | `command` | what a program gets to know |
//! | `program` | a program that runs by itself |
//! | `connection_table` | the connections of an instance |
//! | `clock` | guest time and its deadline |
//! | `deadline` | calls that must not wait |
//! | `stdio` | a guest's output, in the log |
//! | `failure` | how an instance or a connection failed, and whose fault it is |

pub(crate) mod clock;
mod code;
mod command;
mod connection_info;
pub(crate) mod connection_table;
pub(crate) mod deadline;
mod draining;
mod engine;
pub(crate) mod exports;
pub(crate) mod failure;
pub(crate) mod grants;
pub(crate) mod hand_over;
pub(crate) mod handler;
pub(crate) mod handler_error;
pub(crate) mod imports;
pub(crate) mod instance;
pub(crate) mod instance_state;
pub(crate) mod life_cycle;
mod loaded;
pub(crate) mod memory;
pub(crate) mod precompile;
mod program;
mod room;
pub(crate) mod start_cost;
pub(crate) mod stdio;

use crate::guest::clock::Moved;
use crate::guest::connection_table::{ConnectionTable, Served};
use crate::guest::engine::InstanceToken;
use crate::guest::life_cycle::LifeCycle;
use crate::guest::memory::MemoryLimit;
use crate::sockets::SocketsStore;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::sockets::{WasiSocketsCtxView, WasiSocketsView};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

pub(crate) use crate::guest::engine::SHARED_INSTANCES;

/// The data of an instance's store.
pub(crate) struct State {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    memory: MemoryLimit,
    connections: ConnectionTable,
    /// The functions of the instance, when it is made.
    life_cycle: LifeCycle,
    /// Counts this instance as alive.
    _instance: InstanceToken,
}

impl State {
    fn new(
        wasi: WasiCtx,
        memory: MemoryLimit,
        max_resources: usize,
        connections: ConnectionTable,
    ) -> Self {
        let mut table = ResourceTable::new();
        table.set_max_capacity(max_resources);
        Self {
            wasi,
            table,
            memory,
            connections,
            life_cycle: LifeCycle::default(),
            _instance: InstanceToken::new(),
        }
    }

    /// Exchanges what the instance serves. Returns the bytes that its clock looks at.
    pub(crate) fn serve(&mut self, served: Served) -> Moved {
        self.connections.exchange(served);
        self.connections.moved()
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
