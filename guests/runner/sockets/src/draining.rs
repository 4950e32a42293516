//! What `sockserve` tells handlers of their connections: who the peer is, and when one is
//! to be handed over, which is never.

use crate::Component;
use crate::exports::sockserve::handler::blocking_draining;
use crate::exports::sockserve::handler::connection_info;
use crate::exports::wasi::sockets0_2_12::tcp::TcpSocketBorrow;
use crate::server;
use crate::sockserve::handler::connection_types::{Info, Transport};
use crate::tcp::Socket;
use crate::wasi::clocks0_2_12::monotonic_clock::subscribe_duration;
use crate::wasi::io::poll::Pollable;

impl blocking_draining::Guest for Component {
    fn connection(socket: TcpSocketBorrow<'_>) -> u64 {
        match socket.get::<Socket>() {
            Socket::Of(part) => part.connection().id,
            // The contract says that this traps.
            Socket::Other(_) => core::arch::wasm32::unreachable(),
        }
    }

    fn draining(_: u64) -> Pollable {
        subscribe_duration(u64::MAX)
    }
}

impl connection_info::Guest for Component {
    fn describe(socket: TcpSocketBorrow<'_>) -> Option<Info> {
        let Socket::Of(part) = socket.get::<Socket>() else {
            return None;
        };
        let connection = part.connection();
        connection.with_parts(|_| Info {
            connection: connection.id,
            service: server::name(),
            transport: Transport::Tcp,
            peer: connection.peer.clone(),
            local: connection.local.clone(),
            credentials: None,
        })
    }
}
