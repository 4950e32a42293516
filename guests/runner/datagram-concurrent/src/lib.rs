//! The runner of `datagram-concurrent` handlers: a stream of datagrams each way.
#![no_std]

extern crate alloc;

#[path = "../../sockets/src/command.rs"]
mod command;
#[path = "../../datagram/src/loops.rs"]
mod loops;
mod socket;

wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "sockserve:runner/datagram-concurrent-runner@0.1.0",
    generate_all,
});

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use command::{options, print, print_error};
use core::net::SocketAddr;
use exports::wasi::cli0_3_0::run::Guest;
use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use runner_base as _;
use runner_options::Transport;
use socket::Socket;
use sockserve::handler::datagram_concurrent::{self as handler, Datagram};
use wit_bindgen::{StreamReader, StreamResult, StreamWriter};

/// The most datagrams that are taken at once. The contract says so.
const BATCH: usize = 64;

struct Component;

export!(Component);

impl Guest for Component {
    async fn run() -> Result<(), ()> {
        serve().await.map_err(print_error)
    }
}

async fn serve() -> Result<(), String> {
    let (name, options) = options(Transport::Udp)?;
    let sockets: Vec<Rc<Socket>> = options
        .listen
        .iter()
        .map(|&address| Socket::new(address).map(Rc::new))
        .collect::<Result<_, _>>()?;
    for socket in &sockets {
        let line = runner_options::ready_line(
            Transport::Udp,
            socket.address,
            &name,
            "datagram-concurrent",
        );
        print(line);
    }
    let most = usize::try_from(handler::max_data_bytes()).unwrap_or(usize::MAX);
    let (to_handler, incoming) = wit_stream::new();
    let receiving = core::pin::pin!(receive(&sockets, most, to_handler));
    let sending = core::pin::pin!(async {
        let answers = handler::serve(incoming).await;
        send(&sockets, answers).await;
    });
    match select(receiving, sending).await {
        Either::Left(((), sending)) => sending.await,
        Either::Right(((), _)) => {}
    }
    Err("the handler has ended its stream of answers".into())
}

/// Gives the handler what comes, until it takes no more. What comes faster than the
/// handler takes it stays with the system.
async fn receive(sockets: &[Rc<Socket>], most: usize, mut to_handler: StreamWriter<Datagram>) {
    let mut receiving: FuturesUnordered<_> = sockets.iter().cloned().map(Socket::receive).collect();
    while let Some((socket, received)) = receiving.next().await {
        receiving.push(socket.clone().receive());
        let own = sockets.iter().map(|socket| socket.address);
        let own: Vec<SocketAddr> = own.collect();
        // An error is that of an answer that has not arrived.
        let Some(datagram) = received.and_then(|it| socket.accept(it, most, own)) else {
            continue;
        };
        if !to_handler.write_all(vec![datagram]).await.is_empty() {
            return;
        }
    }
}

/// Sends what the handler says, until it has nothing more to say.
async fn send(sockets: &[Rc<Socket>], mut answers: StreamReader<Datagram>) {
    let mut room = Vec::with_capacity(BATCH);
    loop {
        let (result, mut batch) = answers.read(room).await;
        for answer in batch.drain(..) {
            let from = sockets.iter().find(|socket| socket.is_at(&answer.local));
            if let Some(socket) = from.or(sockets.first()) {
                socket.send(answer).await;
            }
        }
        if result == StreamResult::Dropped {
            return;
        }
        room = batch;
    }
}
