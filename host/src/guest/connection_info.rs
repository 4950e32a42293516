//! `connection-info` and `concurrent-connection-info`: who is at the other end of a
//! connection.

use crate::connection::Connection;
use crate::connection::peer::Peer;
use crate::guest::State;
use crate::sockets::SocketsStore as _;
use std::sync::Arc;
use wasmtime::Result;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::p2::bindings::sockets::tcp::TcpSocket as TcpSocket2;
use wasmtime_wasi::p3::bindings::sockets::types::TcpSocket as TcpSocket3;

mod bindings {
    pub(super) mod p2 {
        wasmtime::component::bindgen!({
            path: "../wit",
            inline: "
                package sockserve:host;
                world info { import sockserve:handler/connection-info@0.1.0; }
            ",
            world: "sockserve:host/info",
            imports: { default: trappable },
            require_store_data_send: true,
            with: { "wasi": wasmtime_wasi::p2::bindings },
        });
    }

    pub(super) mod p3 {
        wasmtime::component::bindgen!({
            path: "../wit",
            inline: "
                package sockserve:host;
                world info { import sockserve:handler/concurrent-connection-info@0.1.0; }
            ",
            world: "sockserve:host/info",
            imports: { default: trappable },
            require_store_data_send: true,
            with: {
                "wasi": wasmtime_wasi::p3::bindings,
                "sockserve:handler/connection-types@0.1.0":
                    super::p2::sockserve::handler::connection_types,
            },
        });
    }
}

use bindings::p2::sockserve::handler::connection_info;
pub(super) use bindings::p2::sockserve::handler::connection_types::Info;
use bindings::p2::sockserve::handler::connection_types::{self, Credentials, Transport};
use bindings::p3::sockserve::handler::concurrent_connection_info;

/// Names the store's data to the linker.
struct HasState;

impl HasData for HasState {
    type Data<'a> = &'a mut State;
}

/// Adds the interface of the contract to the linker.
pub(super) fn add_to_linker(linker: &mut Linker<State>, concurrent: bool) -> Result<()> {
    connection_types::add_to_linker::<State, HasState>(linker, |state| state)?;
    // A 0.3 component may use 0.2 as well.
    connection_info::add_to_linker::<State, HasState>(linker, |state| state)?;
    if concurrent {
        concurrent_connection_info::add_to_linker::<State, HasState>(linker, |state| state)?;
    }
    Ok(())
}

impl State {
    /// Describes the accepted connection behind a socket. `None` if there is none.
    fn describe_connection<T: 'static>(&mut self, socket: &Resource<T>) -> Result<Option<Info>> {
        let sockets = self.sockets();
        let connection = sockets.accepted(socket).and_then(|it| it.connection());
        connection.map(|it| describe(&it)).transpose()
    }
}

/// What a guest gets to know of a connection.
pub(super) fn describe(connection: &Arc<Connection>) -> Result<Info> {
    let peer = connection.peer();
    Ok(Info {
        connection: connection.id(),
        service: connection.service().to_owned(),
        transport: match peer {
            Peer::Ip(_) => Transport::Tcp,
            Peer::Unix { .. } => Transport::Unix,
        },
        peer: peer.address(),
        local: connection.local_address()?,
        credentials: peer.credentials().map(|it| Credentials {
            pid: it.pid,
            uid: it.uid,
            gid: it.gid,
        }),
    })
}

impl connection_types::Host for State {}

impl connection_info::Host for State {
    fn describe(&mut self, socket: Resource<TcpSocket2>) -> Result<Option<Info>> {
        self.describe_connection(&socket)
    }
}

impl concurrent_connection_info::Host for State {
    fn describe(&mut self, socket: Resource<TcpSocket3>) -> Result<Option<Info>> {
        self.describe_connection(&socket)
    }
}
