//! The exports of a component, one file per contract: the bindings, the lookup of
//! the functions in an instance, and the calls of them.

mod blocking;
mod concurrent;
pub(crate) mod evented;

pub(crate) use blocking::Blocking;
pub(crate) use concurrent::Concurrent;
pub(crate) use evented::Evented;

use crate::contract::Contract;
use crate::guest::State;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Result, Store};

/// The places of a contract's functions in each instance of a component.
pub(crate) enum ExportsPre {
    Blocking(blocking::Pre),
    Evented(evented::Pre),
    Concurrent(concurrent::Pre),
}

impl ExportsPre {
    pub(super) fn new(contract: Contract, pre: &InstancePre<State>) -> Result<Self> {
        Ok(match contract {
            Contract::Blocking => Self::Blocking(blocking::Pre::new(pre)?),
            Contract::Evented => Self::Evented(evented::Pre::new(pre)?),
            Contract::Concurrent => Self::Concurrent(concurrent::Pre::new(pre)?),
        })
    }
}

/// The functions of one contract, in one instance.
pub(crate) trait Exports: Sized {
    /// Finds the functions in an instance. `None` if the component has another
    /// contract.
    fn load(
        pre: &ExportsPre,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> Option<Result<Self>>;
}
