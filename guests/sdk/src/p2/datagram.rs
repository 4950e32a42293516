//! The contract `datagram`.
#![allow(missing_docs, reason = "wit-bindgen writes some items without them")]

use crate::p2::socket_addr;
use crate::session::{DatagramProtocol, Peer};

wit_bindgen::generate!({
    path: "wit",
    world: "datagram-handler",
    with: {
        "wasi:sockets/network@0.2.12": wasi::sockets::network,
    },
    pub_export_macro: true,
    default_bindings_module: "sockserve_handler::p2::datagram",
});

pub use exports::sockserve::handler::datagram::{Address, Datagram, Guest as Handler};

/// The protocol of an instance, or which of its options is wrong.
pub struct Server<P>(pub Result<P, String>);

impl<P: DatagramProtocol> Server<P> {
    /// How many bytes a datagram may have. A wrong option is told when there is one.
    pub fn max_data_bytes(&self) -> u32 {
        let protocol = self.0.as_ref();
        protocol.map_or(u32::MAX, DatagramProtocol::max_bytes)
    }

    /// Answers a batch. The answers are in the order of the datagrams.
    pub fn receive(&mut self, mut batch: Vec<Datagram>) -> Result<Vec<Datagram>, String> {
        let protocol = self.0.as_mut().map_err(|error| error.clone())?;
        let mut log = Vec::new();
        batch.retain_mut(|Datagram { peer, data, .. }| {
            protocol.answer_in_place(|| shown(peer), data, &mut log)
        });
        crate::print_log(&mut log);
        Ok(batch)
    }
}

/// The peer of a datagram, as protocols show it.
pub fn shown(address: &Address) -> Peer {
    match address {
        Address::Ip(address) => socket_addr(*address).into(),
        Address::Unix(name) => Peer::Named(crate::unix_name(name)),
    }
}
