//! The sockets of a composed command, for handlers on WASI 0.3. `../wit/server.wit` says
//! why a handler's sockets come from here.
//!
//! - [`server`]: the listeners, and how many connections may be open.
//! - [`connection`]: a connection, from its accept to its end.
//! - [`tcp`], [`udp`]: what the handler sees of sockets.
//! - [`event`]: what one task tells another.
#![no_std]

extern crate alloc;

#[path = "../../sockets/src/command.rs"]
mod command;
mod connection;
mod draining;
mod event;
mod listener;
mod server;
mod tcp;
mod udp;

wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "sockserve:runner/sockets-p3@0.1.0",
    generate_all,
    // What passes through is of one type.
    merge_structurally_equal_types: true,
});

struct Component;

export!(Component);

impl exports::wasi::sockets0_3_0::types::Guest for Component {
    type TcpSocket = tcp::Socket;
    type UdpSocket = udp::Socket;
}
