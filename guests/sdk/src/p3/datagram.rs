//! The contract `datagram-concurrent`.
#![allow(missing_docs, reason = "wit-bindgen writes some items without them")]

use crate::p3::socket_addr;
use crate::session::{DatagramProtocol, Peer};
use wit_bindgen::{StreamReader, StreamResult};

wit_bindgen::generate!({
    path: "wit",
    world: "datagram-concurrent-handler",
    with: {
        "wasi:clocks/types@0.3.0": wasip3::clocks::types,
        "wasi:sockets/types@0.3.0": wasip3::sockets::types,
    },
    pub_export_macro: true,
    default_bindings_module: "sockserve_handler::p3::datagram",
});

pub use exports::sockserve::handler::datagram_concurrent::{Address, Datagram, Guest as Handler};

/// The most datagrams that one read gives. The contract says so.
const BATCH: usize = 64;

/// Answers the datagrams of a stream, and returns the stream of the answers. It ends when
/// the datagrams end.
pub fn answer(
    mut protocol: impl DatagramProtocol + 'static,
    incoming: StreamReader<Datagram>,
) -> StreamReader<Datagram> {
    run(incoming, async move |mut batch| {
        let mut log = Vec::new();
        batch.retain_mut(|Datagram { peer, data, .. }| {
            protocol.answer_in_place(|| shown(peer), data, &mut log)
        });
        crate::print_log(&mut log);
        batch
    })
}

/// Gives `serve` one batch after another, and writes what it returns to the stream that
/// this returns.
pub fn run(
    mut incoming: StreamReader<Datagram>,
    mut serve: impl AsyncFnMut(Vec<Datagram>) -> Vec<Datagram> + 'static,
) -> StreamReader<Datagram> {
    let (mut outgoing, answers) = wit_stream::new();
    wit_bindgen::spawn_local(async move {
        let mut room = Vec::with_capacity(BATCH);
        loop {
            let (result, mut batch) = incoming.read(room).await;
            let answers = serve(std::mem::take(&mut batch)).await;
            if !answers.is_empty() && !outgoing.write_all(answers).await.is_empty() {
                // The host takes no more.
                break;
            }
            if result == StreamResult::Dropped {
                break;
            }
            room = Vec::with_capacity(BATCH);
        }
    });
    answers
}

/// The peer of a datagram, as protocols show it.
pub fn shown(address: &Address) -> Peer {
    match address {
        Address::Ip(address) => socket_addr(*address).into(),
        Address::Unix(name) => Peer::Named(crate::unix_name(name)),
    }
}
