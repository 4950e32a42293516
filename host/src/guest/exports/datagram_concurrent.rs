//! The contract `datagram-concurrent`: one call, with a stream of datagrams each way, on
//! WASI 0.3.

use crate::datagram::address::Ends;
use crate::datagram::batch::Datagram as Received;
use crate::guest::State;
use crate::guest::exports::datagram::Answer;
use crate::guest::failure::Failure;
use crate::socket_name::{SocketName, UnixName};
use wasmtime::component::{Accessor, StreamReader};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sockserve:handler/datagram-concurrent-handler",
        exports: { default: async | store },
        with: { "wasi": wasmtime_wasi::p3::bindings },
    });
}

pub(super) use bindings::DatagramConcurrentHandlerIndices as Pre;
use bindings::exports::sockserve::handler::datagram_concurrent::Address as WitAddress;
pub(crate) use bindings::exports::sockserve::handler::datagram_concurrent::Datagram as WitDatagram;

/// The functions of one instance.
pub(crate) struct DatagramConcurrent(pub(super) bindings::DatagramConcurrentHandler);

impl DatagramConcurrent {
    /// Asks the guest how many bytes a datagram may have.
    pub(crate) async fn max_data_bytes_in(
        &self,
        accessor: &Accessor<State>,
    ) -> Result<u32, Failure> {
        let guest = self.0.sockserve_handler_datagram_concurrent();
        let called = guest.call_max_data_bytes(accessor).await;
        called.map_err(|error| Failure::from_call(&error))
    }

    /// Calls the handler, inside the event loop of a store. Returns the stream of what it
    /// wants to be sent, when the handler has returned it.
    pub(crate) async fn serve_in(
        &self,
        accessor: &Accessor<State>,
        incoming: StreamReader<WitDatagram>,
    ) -> Result<StreamReader<WitDatagram>, Failure> {
        let guest = self.0.sockserve_handler_datagram_concurrent();
        let called = guest.call_serve(accessor, incoming).await;
        called.map_err(|error| Failure::from_call(&error))
    }
}

/// A datagram as the guest gets it.
pub(crate) fn datagram(received: Received<'_>) -> WitDatagram {
    let address = |address: &SocketName| match address {
        SocketName::Ip(address) => WitAddress::Ip((*address).into()),
        SocketName::Unix(name) => WitAddress::Unix(name.to_bytes()),
    };
    WitDatagram {
        peer: address(&received.ends.peer),
        local: address(&received.ends.local),
        data: received.data.to_vec(),
    }
}

/// A datagram that the guest wants to be sent.
pub(crate) fn answer(datagram: WitDatagram) -> Answer {
    let address = |address| match address {
        WitAddress::Ip(address) => SocketName::Ip(address.into()),
        WitAddress::Unix(name) => SocketName::Unix(UnixName::from_bytes(&name)),
    };
    let ends = Ends {
        peer: address(datagram.peer),
        local: address(datagram.local),
    };
    (ends, datagram.data)
}
