//! The contract `datagram`.

use crate::socket_addr;
use protocol::{DatagramProtocol, Peer};

wit_bindgen::generate!({
    path: "../../../wit",
    world: "datagram-handler",
    with: {
        "wasi:sockets/network@0.2.12": wasi::sockets::network,
    },
    pub_export_macro: true,
    default_bindings_module: "shell_p2::datagram",
});

pub use exports::sockserve::handler::datagram::{Address, Datagram, Guest as Handler};

/// Answers a batch. The answers are in the order of the datagrams.
pub fn answer(protocol: &mut impl DatagramProtocol, mut batch: Vec<Datagram>) -> Vec<Datagram> {
    let mut log = Vec::new();
    batch.retain_mut(|datagram| {
        let data = std::mem::take(&mut datagram.data);
        let answer = protocol.answer(|| peer(&datagram.peer), data, &mut log);
        let is_answered = answer.is_some();
        datagram.data = answer.unwrap_or_default();
        is_answered
    });
    shell::print_log(&mut log);
    batch
}

/// The peer of a datagram, as protocols show it.
pub fn peer(address: &Address) -> Peer {
    match address {
        Address::Ip(address) => socket_addr(*address).into(),
        Address::Unix(name) => Peer::Named(shell::unix_name(name)),
    }
}
