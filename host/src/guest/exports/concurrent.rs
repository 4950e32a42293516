//! The contract `concurrent`: one call per connection, many calls at once in one
//! store, on WASI 0.3.

use super::{Exports, ExportsPre};
use crate::connection::Connection;
use crate::guest::State;
use crate::guest::failure::Failure;
use crate::sockets::push_socket;
use std::sync::Arc;
use wasmtime::component::{Accessor, Instance, Resource};
use wasmtime::{Result, Store};
use wasmtime_wasi::p3::bindings::sockets::types::TcpSocket;

mod bindings {
    #![allow(
        missing_docs,
        clippy::missing_docs_in_private_items,
        reason = "generated; the items are documented in wit/"
    )]

    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sockserve:handler/concurrent-handler",
        exports: { default: async | store },
        with: { "wasi": wasmtime_wasi::p3::bindings },
    });
}

pub(super) use bindings::ConcurrentHandlerIndices as Pre;

/// The functions of one instance.
pub(crate) struct Concurrent(bindings::ConcurrentHandler);

impl Exports for Concurrent {
    fn load(
        pre: &ExportsPre,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> Option<Result<Self>> {
        let ExportsPre::Concurrent(pre) = pre else {
            return None;
        };
        Some(pre.load(store, instance).map(Self))
    }
}

impl Concurrent {
    /// Puts a connection into the guest's table. Returns the socket to call the
    /// handler with.
    pub(crate) fn push(
        accessor: &Accessor<State>,
        connection: &Arc<Connection>,
    ) -> std::result::Result<Resource<TcpSocket>, Failure> {
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
    ) -> std::result::Result<std::result::Result<(), String>, Failure> {
        let guest = self.0.sockserve_handler_concurrent();
        let returned = guest.call_handle(accessor, socket).await;
        returned.map_err(|error| Failure::from_call(&error))
    }
}
