//! The runner of `datagram` handlers: batches of at most 64 datagrams, one after another.
#![no_std]

extern crate alloc;

#[path = "../../sockets/src/command.rs"]
mod command;
mod loops;
mod socket;

wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "sockserve:runner/datagram-runner@0.1.0",
    generate_all,
});

use alloc::string::String;
use alloc::vec::Vec;
use command::{options, print, print_error};
use exports::wasi::cli0_2_12::run::Guest;
use runner_base as _;
use runner_options::Transport;
use socket::Socket;
use sockserve::handler::datagram;
use wasi::io::poll::poll;

struct Component;

export!(Component);

impl Guest for Component {
    fn run() -> Result<(), ()> {
        serve().map_err(print_error)
    }
}

fn serve() -> Result<(), String> {
    let (name, options) = options(Transport::Udp)?;
    let sockets: Vec<Socket> = options
        .listen
        .iter()
        .map(|&address| Socket::new(address))
        .collect::<Result<_, _>>()?;
    for socket in &sockets {
        let address = socket.address;
        print(runner_options::ready_line(
            Transport::Udp,
            address,
            &name,
            "datagram",
        ));
    }
    let most = usize::try_from(datagram::max_data_bytes()).unwrap_or(usize::MAX);
    let readable: Vec<_> = sockets.iter().map(|socket| &socket.readable).collect();
    loop {
        for index in poll(&readable) {
            let place = usize::try_from(index).ok();
            if let Some(socket) = place.and_then(|place| sockets.get(place)) {
                serve_one(socket, &sockets, most);
            }
        }
    }
}

/// Serves what has come to one socket.
fn serve_one(socket: &Socket, sockets: &[Socket], most: usize) {
    let batch = socket.receive(most, sockets);
    if batch.is_empty() {
        return;
    }
    match datagram::receive(&batch) {
        Ok(answers) => socket.send(answers),
        Err(reason) => print_error(runner_options::batch_failure_line(&reason)),
    }
}
