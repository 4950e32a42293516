//! The contract `datagram`: one call per batch of datagrams, on WASI 0.2.

use crate::datagram::address::Ends;
use crate::datagram::batch::Datagram as Received;
use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::failure::Failure;
use crate::socket_name::{SocketName, UnixName};
use std::pin::pin;
use wasmtime::Store;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sockserve:handler/datagram-handler",
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
        with: { "wasi": wasmtime_wasi::p2::bindings },
    });
}

pub(super) use bindings::DatagramHandlerIndices as Pre;
use bindings::exports::sockserve::handler::datagram::{
    AddressParam, AddressResult, DatagramParam, DatagramResult,
};

/// The functions of one instance.
pub(crate) struct Datagram(pub(super) bindings::DatagramHandler);

/// A datagram that the guest wants to be sent.
pub(crate) type Answer = (Ends, Vec<u8>);

impl Datagram {
    /// Asks the guest how many bytes a datagram may have.
    pub(crate) async fn max_data_bytes(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> Result<u32, Failure> {
        let guest = self.0.sockserve_handler_datagram();
        let call = pin!(guest.call_max_data_bytes(store));
        clock
            .count(call)
            .await
            .map_err(|error| Failure::from_call(&error))
    }

    /// Gives the guest a batch. Returns what it wants to be sent.
    pub(crate) async fn receive(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
        batch: impl ExactSizeIterator<Item = Received<'_>>,
    ) -> wasmtime::Result<Result<Vec<Answer>, String>> {
        let named: Vec<_> = batch.map(|it| (it, Names::of(it))).collect();
        let datagrams: Vec<_> = named.iter().map(Names::datagram).collect();
        let guest = self.0.sockserve_handler_datagram();
        let call = pin!(guest.call_receive(store, &datagrams));
        let answered = clock.count(call).await?;
        Ok(answered.map(|answers| answers.into_iter().map(answer).collect()))
    }
}

/// The names of Unix sockets, as the guest gets them. Empty for a datagram of the
/// network.
struct Names {
    peer: Vec<u8>,
    local: Vec<u8>,
}

impl Names {
    fn of(received: Received<'_>) -> Self {
        let name = |address: &SocketName| match address {
            SocketName::Ip(_) => Vec::new(),
            SocketName::Unix(name) => name.to_bytes(),
        };
        Self {
            peer: name(&received.ends.peer),
            local: name(&received.ends.local),
        }
    }

    fn datagram<'a>((received, names): &'a (Received<'a>, Self)) -> DatagramParam<'a> {
        let address = |address: &SocketName, name: &'a [u8]| match address {
            SocketName::Ip(address) => AddressParam::Ip((*address).into()),
            SocketName::Unix(_) => AddressParam::Unix(name),
        };
        DatagramParam {
            peer: address(&received.ends.peer, &names.peer),
            local: address(&received.ends.local, &names.local),
            data: received.data,
        }
    }
}

fn answer(answer: DatagramResult) -> Answer {
    let address = |address| match address {
        AddressResult::Ip(address) => SocketName::Ip(address.into()),
        AddressResult::Unix(name) => SocketName::Unix(UnixName::from_bytes(&name)),
    };
    let ends = Ends {
        peer: address(answer.peer),
        local: address(answer.local),
    };
    (ends, answer.data)
}
