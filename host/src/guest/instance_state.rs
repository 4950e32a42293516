//! The calls of `instance-state`, an interface that a component may export beside its
//! contract, for instances that serve all connections or all datagrams.

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
            world: "sockserve:handler/stateful-handler",
            exports: { default: async },
        });
    }

    pub(super) mod p3 {
        wasmtime::component::bindgen!({
            path: "../wit",
            world: "sockserve:handler/stateful-handler",
            exports: { default: async | store },
        });
    }
}

use bindings::p2::exports::sockserve::handler::instance_state::State as P2State;
use bindings::p3::exports::sockserve::handler::instance_state::State as P3State;
use bindings::{p2, p3};

/// What an instance knows beyond its connections. The host does not read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InstanceState {
    /// What the bytes mean.
    pub(crate) tag: String,
    pub(crate) bytes: Vec<u8>,
}

impl InstanceState {
    /// How many bytes it has, its tag included.
    pub(crate) fn size(&self) -> u64 {
        (self.tag.len() + self.bytes.len()) as u64
    }
}

/// The places of the functions in each instance of a component.
pub(crate) enum KeeperPre {
    /// The component does not export the interface.
    Absent,
    P2(p2::StatefulHandlerIndices),
    P3(p3::StatefulHandlerIndices),
}

/// The functions of one instance. An instance without them has nothing to pass on.
pub(crate) enum Keeper {
    Absent,
    P2(p2::StatefulHandler),
    P3(p3::StatefulHandler),
}

impl KeeperPre {
    pub(crate) fn p2(pre: &InstancePre<State>) -> Result<Self> {
        p2::StatefulHandlerIndices::new(pre).map(Self::P2)
    }

    pub(crate) fn p3(pre: &InstancePre<State>) -> Result<Self> {
        p3::StatefulHandlerIndices::new(pre).map(Self::P3)
    }

    pub(crate) fn load(&self, store: &mut Store<State>, instance: &Instance) -> Result<Keeper> {
        match self {
            Self::Absent => Ok(Keeper::Absent),
            Self::P2(indices) => indices.load(store, instance).map(Keeper::P2),
            Self::P3(indices) => indices.load(store, instance).map(Keeper::P3),
        }
    }
}

impl Keeper {
    /// Asks the guest for what it knows. `None` if there is nothing to pass on.
    pub(crate) async fn save(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
        deadline: Deadline,
    ) -> Result<Option<InstanceState>, Failure> {
        let state = match self {
            Self::Absent => None,
            Self::P2(exports) => {
                let room = Room::make(&mut *store);
                let guest = exports.sockserve_handler_instance_state();
                let saved = {
                    let call = pin!(guest.call_save(&mut *store));
                    deadline.hold(pin!(clock.count(call))).await
                };
                room.give_back(&mut *store);
                saved?.map(|P2State { tag, bytes }| InstanceState { tag, bytes })
            }
            Self::P3(_) => {
                let call = store.run_concurrent(async |accessor| self.save_in(accessor).await);
                deadline.hold(pin!(clock.count(pin!(call)))).await??
            }
        };
        Ok(state)
    }

    /// Does the same, inside the event loop of a store. The caller enforces the
    /// deadline, from outside of the loop (see [`Deadline::hold`]).
    pub(crate) async fn save_in(
        &self,
        accessor: &Accessor<State>,
    ) -> Result<Option<InstanceState>, Failure> {
        let Self::P3(exports) = self else {
            return Ok(None);
        };
        let room = accessor.with(|mut access| Room::make(access.as_context_mut()));
        let guest = exports.sockserve_handler_instance_state();
        let saved = guest.call_save(accessor).await;
        accessor.with(|mut access| room.give_back(access.as_context_mut()));
        let saved = saved.map_err(|error| Failure::from_call(&error))?;
        Ok(saved.map(|P3State { tag, bytes }| InstanceState { tag, bytes }))
    }

    /// Gives an instance, which nobody has called yet, what another has saved. The inner
    /// error is the guest's reason to refuse it.
    pub(crate) async fn restore(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
        deadline: Deadline,
        InstanceState { tag, bytes }: InstanceState,
    ) -> Result<Result<(), String>, Failure> {
        match self {
            Self::Absent => Ok(Err(NOT_EXPORTED.to_owned())),
            Self::P2(exports) => {
                let state = P2State { tag, bytes };
                let guest = exports.sockserve_handler_instance_state();
                let call = pin!(guest.call_restore(store, &state));
                deadline.hold(pin!(clock.count(call))).await
            }
            Self::P3(exports) => {
                let state = P3State { tag, bytes };
                let guest = exports.sockserve_handler_instance_state();
                let call = store.run_concurrent(async |accessor| {
                    let restored = guest.call_restore(accessor, state).await;
                    restored.map_err(|error| Failure::from_call(&error))
                });
                deadline.hold(pin!(clock.count(pin!(call)))).await?
            }
        }
    }
}

/// The refusal of a component without the interface.
pub(crate) const NOT_EXPORTED: &str = "its component does not export instance-state";
