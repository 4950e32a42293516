//! The sockets that a guest sees.
//!
//! An accepted connection is a [`Connection`] of the host, not a socket of
//! wasmtime-wasi: only a guest's own `connect` or `accept` can make those
//! (bytecodealliance/wasmtime#7681). So the published binding traits of
//! `wasi:sockets` are implemented here for a view of our own, once per WASI
//! version. A method first looks for the resource in the table under our type. A
//! socket that the guest created itself is not found there, and goes to
//! wasmtime-wasi unchanged.
//!
//! | file | |
//! | --- | --- |
//! | `options` | socket options, shared by both WASI versions |
//! | `p2` | WASI 0.2: `tcp-socket` and its two streams |
//! | `p3` | WASI 0.3: `tcp-socket`, `send` and `receive` |
//! | `stdio` | both: standard input and output of a program |

/// Writes the methods for the properties of a socket. The connection answers if the
/// socket is ours, wasmtime-wasi if the guest created the socket. Used inside the
/// implementation of `HostTcpSocket`, whose two versions differ only in the names.
macro_rules! properties {
    ($(fn $name:ident($($value:ident: $type:ty)?) -> $result:ty = $ours:ident;)*) => {$(
        fn $name(
            &mut self,
            socket: Resource<TcpSocket>,
            $($value: $type,)?
        ) -> SocketResult<$result> {
            match self.accepted(&socket) {
                Some(accepted) => accepted
                    .connection()
                    .ok_or(ErrorCode::InvalidState)?
                    .$ours($($value)?)
                    .map_err(|error| ErrorCode::from(error).into()),
                None => HostTcpSocket::$name(&mut self.0, socket $(, $value)?),
            }
        }
    )*};
}

mod options;
pub(crate) mod p2;
pub(crate) mod p3;
pub(crate) mod stdio;

use crate::connection::{Connection, ConnectionId, Held};
use std::sync::Arc;
use wasmtime::component::{HasData, Resource, ResourceTable};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

/// The data that the socket interfaces work on: wasmtime-wasi's view, for the
/// sockets that a guest created itself, and our connections in the same table.
pub(crate) struct SocketsView<'a>(pub(crate) WasiSocketsCtxView<'a>);

/// The data of a store that has sockets.
pub(crate) trait SocketsStore: Send + 'static {
    /// Returns the sockets that the guest created itself.
    fn wasi_sockets(&mut self) -> WasiSocketsCtxView<'_>;

    /// Returns all sockets that the guest sees.
    fn sockets(&mut self) -> SocketsView<'_> {
        SocketsView(self.wasi_sockets())
    }
}

/// Names [`SocketsView`] to the linker.
pub(crate) struct Sockets;

impl HasData for Sockets {
    type Data<'a> = SocketsView<'a>;
}

/// An accepted connection in the resource table. The guest sees it as a
/// `tcp-socket`.
pub(crate) struct Accepted {
    pub(crate) id: ConnectionId,
    /// Whether its addresses are IPv4 addresses.
    is_ipv4: bool,
    held: Held,
    /// WASI 0.3 gives the stream of each direction out once.
    send_taken: bool,
    receive_taken: bool,
}

impl Accepted {
    pub(crate) fn new(connection: &Arc<Connection>) -> Self {
        Self {
            id: connection.id(),
            is_ipv4: connection
                .peer()
                .ip()
                .is_none_or(|address| address.is_ipv4()),
            held: connection.hold(),
            send_taken: false,
            receive_taken: false,
        }
    }

    /// Returns the connection. `None` once its handler is done.
    pub(crate) fn connection(&self) -> Option<Arc<Connection>> {
        self.held.get()
    }
}

impl SocketsView<'_> {
    /// Returns the accepted connection behind `socket`. `None` if the guest created
    /// the socket itself.
    pub(crate) fn accepted<T: 'static>(&self, socket: &Resource<T>) -> Option<&Accepted> {
        let socket = Resource::<Accepted>::new_borrow(socket.rep());
        self.0.table.get(&socket).ok()
    }

    fn accepted_mut<T: 'static>(&mut self, socket: &Resource<T>) -> Option<&mut Accepted> {
        let socket = Resource::<Accepted>::new_borrow(socket.rep());
        self.0.table.get_mut(&socket).ok()
    }

    /// Drops the accepted connection behind `socket`. Returns false if the guest
    /// created the socket itself.
    fn drop_accepted<T: 'static>(&mut self, socket: &Resource<T>) -> wasmtime::Result<bool> {
        if self.accepted(socket).is_none() {
            return Ok(false);
        }
        self.0
            .table
            .delete(Resource::<Accepted>::new_own(socket.rep()))?;
        Ok(true)
    }
}

/// Puts a connection into a guest's table. There it is a `tcp-socket` of the
/// bindings' type `T`.
pub(crate) fn push_socket<T: 'static>(
    table: &mut ResourceTable,
    connection: &Arc<Connection>,
) -> wasmtime::Result<Resource<T>> {
    let socket = table.push(Accepted::new(connection))?;
    Ok(Resource::new_own(socket.rep()))
}
