//! The contract `concurrent`: one call per connection, many calls at once in one
//! store, on WASI 0.3.

use crate::connection::Connection;
use crate::guest::State;
use crate::guest::failure::Failure;
use crate::sockets::push_socket;
use std::sync::Arc;
use wasmtime::component::{Accessor, Resource};
use wasmtime_wasi::p3::bindings::sockets::types::TcpSocket;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sockserve:handler/concurrent-handler",
        exports: { default: async | store },
        with: { "wasi": wasmtime_wasi::p3::bindings },
    });
}

pub(super) use bindings::ConcurrentHandlerIndices as Pre;

/// The functions of one instance.
pub(crate) struct Concurrent(pub(super) bindings::ConcurrentHandler);

impl Concurrent {
    /// Puts a connection into the guest's table. Returns the socket to call the
    /// handler with.
    pub(crate) fn push(
        accessor: &Accessor<State>,
        connection: &Arc<Connection>,
    ) -> Result<Resource<TcpSocket>, Failure> {
        let socket = accessor.with(|mut access| push_socket(&mut access.get().table, connection));
        socket.map_err(|error| Failure::from_call(&error))
    }

    /// Calls the handler for a connection, inside the event loop of a store. The
    /// inner error is the one that the handler has returned.
    ///
    /// A call that has begun cannot be cancelled; it ends by itself or with its
    /// store (bytecodealliance/wasmtime#11833).
    pub(crate) async fn handle_in(
        &self,
        accessor: &Accessor<State>,
        socket: Resource<TcpSocket>,
    ) -> Result<Result<(), String>, Failure> {
        let guest = self.0.sockserve_handler_concurrent();
        let returned = guest.call_handle(accessor, socket).await;
        returned.map_err(|error| Failure::from_call(&error))
    }
}
