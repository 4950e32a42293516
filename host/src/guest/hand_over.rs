//! The calls of `hand-over`, an interface that a component may export beside its
//! contract.

use crate::connection::ConnectionId;
use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::deadline::Deadline;
use crate::guest::failure::Failure;
use crate::guest::room::Room;
use std::pin::pin;
use wasmtime::component::{Accessor, Instance, InstancePre};
use wasmtime::{AsContextMut as _, Result, Store};

mod bindings {
    pub(super) mod p2 {
        wasmtime::component::bindgen!({
            path: "../wit",
            inline: "
                package sockserve:host;
                world hand-over { export sockserve:handler/hand-over@0.1.0; }
            ",
            world: "sockserve:host/hand-over",
            exports: { default: async },
        });
    }

    pub(super) mod p3 {
        wasmtime::component::bindgen!({
            path: "../wit",
            inline: "
                package sockserve:host;
                world hand-over { export sockserve:handler/hand-over@0.1.0; }
            ",
            world: "sockserve:host/hand-over",
            exports: { default: async | store },
        });
    }
}

use bindings::{p2, p3};

/// The most bytes of a state, its tag included. The contract sets this limit.
pub(crate) const MAX_STATE: usize = 1 << 20;

/// A guest's state for one connection. The host does not read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectionState {
    pub(crate) tag: String,
    pub(crate) bytes: Vec<u8>,
}

impl ConnectionState {
    /// The number of bytes that count against [`MAX_STATE`].
    pub(crate) fn size(&self) -> usize {
        self.tag.len() + self.bytes.len()
    }
}

/// The places of the functions in each instance of a component.
pub(crate) enum HandOverPre {
    /// The component does not export the interface.
    Absent,
    P2(p2::HandOverIndices),
    P3(p3::HandOverIndices),
}

/// The functions of one instance. An instance without them gives no connection up
/// and accepts none.
pub(crate) enum HandOver {
    Absent,
    P2(p2::HandOver),
    P3(p3::HandOver),
}

impl HandOverPre {
    pub(crate) fn p2(pre: &InstancePre<State>) -> Result<Self> {
        p2::HandOverIndices::new(pre).map(Self::P2)
    }

    pub(crate) fn p3(pre: &InstancePre<State>) -> Result<Self> {
        p3::HandOverIndices::new(pre).map(Self::P3)
    }

    pub(crate) fn load(&self, store: &mut Store<State>, instance: &Instance) -> Result<HandOver> {
        match self {
            Self::Absent => Ok(HandOver::Absent),
            Self::P2(indices) => indices.load(store, instance).map(HandOver::P2),
            Self::P3(indices) => indices.load(store, instance).map(HandOver::P3),
        }
    }
}

/// The refusal of a component without the interface.
pub(crate) const NOT_EXPORTED: &str = "its component does not export hand-over";

impl HandOver {
    /// Asks the guest to give a connection up. `None` if the guest keeps it.
    pub(crate) async fn give_up(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
        deadline: Deadline,
        id: ConnectionId,
    ) -> Result<Option<ConnectionState>, Failure> {
        let Self::P2(exports) = self else {
            return Ok(None);
        };
        let guest = exports.sockserve_handler_hand_over();
        // One that is too large goes back to the guest, which serves the connection on.
        let room = Room::make(&mut *store);
        let state = {
            let call = pin!(guest.call_hand_over(&mut *store, id));
            deadline.hold(pin!(clock.count(call))).await
        };
        room.give_back(&mut *store);
        let state = state?;
        Ok(state.map(|state| ConnectionState {
            tag: state.tag,
            bytes: state.bytes,
        }))
    }

    /// Asks the guest to accept a connection. The inner error is the guest's reason
    /// to refuse it.
    pub(crate) async fn accept(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
        deadline: Deadline,
        id: ConnectionId,
        state: &ConnectionState,
    ) -> Result<Result<(), String>, Failure> {
        let Self::P2(exports) = self else {
            return Ok(Err(NOT_EXPORTED.to_owned()));
        };
        let guest = exports.sockserve_handler_hand_over();
        let state = p2::exports::sockserve::handler::hand_over::State {
            tag: state.tag.clone(),
            bytes: state.bytes.clone(),
        };
        let call = pin!(guest.call_accept(store, id, &state));
        deadline.hold(pin!(clock.count(call))).await
    }

    /// Does the same as [`give_up`](Self::give_up), inside the event loop of a
    /// store. The caller enforces the deadline, from outside of the loop (see
    /// [`Deadline::hold`]).
    pub(crate) async fn give_up_in(
        &self,
        accessor: &Accessor<State>,
        id: ConnectionId,
    ) -> Result<Option<ConnectionState>, Failure> {
        let Self::P3(exports) = self else {
            return Ok(None);
        };
        let guest = exports.sockserve_handler_hand_over();
        let room = accessor.with(|mut access| Room::make(access.as_context_mut()));
        let state = guest.call_hand_over(accessor, id).await;
        accessor.with(|mut access| room.give_back(access.as_context_mut()));
        let state = state.map_err(|error| Failure::from_call(&error))?;
        Ok(state.map(|state| ConnectionState {
            tag: state.tag,
            bytes: state.bytes,
        }))
    }

    /// Does the same as [`accept`](Self::accept), inside the event loop of a store.
    /// The caller enforces the deadline, from outside of the loop (see
    /// [`Deadline::hold`]).
    pub(crate) async fn accept_in(
        &self,
        accessor: &Accessor<State>,
        id: ConnectionId,
        state: &ConnectionState,
    ) -> Result<Result<(), String>, Failure> {
        let Self::P3(exports) = self else {
            return Ok(Err(NOT_EXPORTED.to_owned()));
        };
        let guest = exports.sockserve_handler_hand_over();
        let state = p3::exports::sockserve::handler::hand_over::State {
            tag: state.tag.clone(),
            bytes: state.bytes.clone(),
        };
        let accepted = guest.call_accept(accessor, id, state).await;
        accepted.map_err(|error| Failure::from_call(&error))
    }
}
