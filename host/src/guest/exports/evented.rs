//! The contract `evented`: one call per batch of readiness events, on WASI 0.2.

use crate::connection::{Connection, ConnectionId};
use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::deadline::Deadline;
use crate::guest::failure::Failure;
use crate::sockets::p2;
use std::pin::pin;
use std::sync::Arc;
use wasmtime::Store;
use wasmtime::component::ResourceTable;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sockserve:handler/evented-handler",
        exports: { default: async },
        with: { "wasi": wasmtime_wasi::p2::bindings },
    });
}

pub(super) use bindings::EventedHandlerIndices as Pre;
use bindings::exports::sockserve::handler::evented::Opened;
pub(crate) use bindings::exports::sockserve::handler::evented::{
    Change, Event, Interest, Readiness, Ready,
};

/// The functions of one instance.
pub(crate) struct Evented(pub(super) bindings::EventedHandler);

impl Evented {
    /// Tells the guest which connections are ready. Returns the changes that the
    /// guest asks for.
    pub(crate) async fn turn(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
        deadline: Deadline,
        events: &[Event],
    ) -> Result<Vec<Change>, Failure> {
        let guest = self.0.sockserve_handler_evented();
        let call = pin!(guest.call_turn(store, events));
        deadline.hold(pin!(clock.count(call))).await
    }
}

/// Puts a connection's resources into the guest's table, and returns the event that
/// gives the guest the connection.
pub(crate) fn opened(
    table: &mut ResourceTable,
    id: ConnectionId,
    connection: &Arc<Connection>,
) -> Result<Event, Failure> {
    let resources = p2::push(table, connection);
    let (socket, input, output) = resources.map_err(|error| Failure::from_call(&error))?;
    Ok(Event::Opened(Opened {
        connection: id,
        socket,
        input,
        output,
    }))
}
