//! What `sockserve` tells handlers of their connections: who the peer is, and when one is
//! to be handed over, which is never.

use crate::Component;
use crate::exports::sockserve::handler::concurrent_connection_info;
use crate::exports::sockserve::handler::concurrent_draining;
use crate::exports::wasi::sockets0_3_0::types::TcpSocketBorrow;
use crate::server;
use crate::sockserve::handler::connection_types::{Info, Transport};
use crate::tcp::Socket;

impl concurrent_draining::Guest for Component {
    fn connection(socket: TcpSocketBorrow<'_>) -> u64 {
        match socket.get::<Socket>() {
            Socket::Of(connection) => connection.id,
            // The contract says that this traps.
            Socket::Other(_) => core::arch::wasm32::unreachable(),
        }
    }

    async fn draining(_: u64) {
        core::future::pending().await
    }
}

impl concurrent_connection_info::Guest for Component {
    fn describe(socket: TcpSocketBorrow<'_>) -> Option<Info> {
        let Socket::Of(connection) = socket.get::<Socket>() else {
            return None;
        };
        (!connection.is_over.has_happened()).then(|| Info {
            connection: connection.id,
            service: server::name(),
            transport: Transport::Tcp,
            peer: connection.peer.clone(),
            local: connection.local.clone(),
            credentials: None,
        })
    }
}
