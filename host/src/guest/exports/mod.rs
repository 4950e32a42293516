//! The exports of a component, one file per contract: the bindings, the lookup of
//! the functions in an instance, and the calls of them.

mod blocking;
mod command;
mod command_p3;
mod concurrent;
pub(crate) mod datagram;
pub(crate) mod datagram_concurrent;
pub(crate) mod evented;

pub(crate) use blocking::Blocking;
pub(crate) use command::Command;
pub(crate) use command_p3::CommandP3;
pub(crate) use concurrent::Concurrent;
pub(crate) use datagram::Datagram;
pub(crate) use datagram_concurrent::DatagramConcurrent;
pub(crate) use evented::Evented;

use crate::contract::Contract;
use crate::guest::State;
use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Result, Store};

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

macro_rules! exports {
    ($($contract:ident in $file:ident),*) => {
        /// The places of a contract's functions in each instance of a component.
        pub(crate) enum ExportsPre {
            $($contract($file::Pre),)*
        }

        impl ExportsPre {
            pub(super) fn new(contract: Contract, pre: &InstancePre<State>) -> Result<Self> {
                match contract {
                    $(Contract::$contract => $file::Pre::new(pre).map(Self::$contract),)*
                }
            }
        }

        $(
            impl Exports for $contract {
                fn load(
                    pre: &ExportsPre,
                    store: &mut Store<State>,
                    instance: &Instance,
                ) -> Option<Result<Self>> {
                    match pre {
                        ExportsPre::$contract(pre) => Some(pre.load(store, instance).map(Self)),
                        _ => None,
                    }
                }
            }
        )*
    };
}

exports! {
    Blocking in blocking,
    Evented in evented,
    Concurrent in concurrent,
    Datagram in datagram,
    DatagramConcurrent in datagram_concurrent,
    Command in command,
    CommandP3 in command_p3
}
