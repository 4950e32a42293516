//! `blocking-draining` and `concurrent-draining`: how a guest learns that it is to
//! hand a connection over.

use crate::connection::notice::Notice;
use crate::connection::{Connection, ConnectionId};
use crate::guest::State;
use crate::sockets::SocketsStore as _;
use std::future::pending;
use std::sync::{Arc, Weak};
use wasmtime::component::{Accessor, HasData, Linker, Resource};
use wasmtime::{Result, format_err};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::sockets::tcp::TcpSocket as TcpSocket2;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::p3::bindings::sockets::types::TcpSocket as TcpSocket3;

mod bindings {
    pub(super) mod p2 {
        wasmtime::component::bindgen!({
            path: "../wit",
            inline: "
                package sockserve:host;
                world draining { import sockserve:handler/blocking-draining@0.1.0; }
            ",
            world: "sockserve:host/draining",
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
                world draining { import sockserve:handler/concurrent-draining@0.1.0; }
            ",
            world: "sockserve:host/draining",
            imports: { default: trappable },
            with: { "wasi": wasmtime_wasi::p3::bindings },
        });
    }
}

use bindings::{p2, p3};

/// Names the store's data to the linker.
struct Draining;

impl HasData for Draining {
    type Data<'a> = &'a mut State;
}

/// Adds the `draining` interface of the contract to the linker.
pub(super) fn add_to_linker(linker: &mut Linker<State>, concurrent: bool) -> Result<()> {
    use p2::sockserve::handler::blocking_draining as blocking;
    use p3::sockserve::handler::concurrent_draining;
    if concurrent {
        concurrent_draining::add_to_linker::<State, Draining>(linker, |state| state)
    } else {
        blocking::add_to_linker::<State, Draining>(linker, |state| state)
    }
}

impl State {
    /// Returns the id of the accepted connection behind a socket.
    fn connection_of<T: 'static>(&mut self, socket: &Resource<T>) -> Result<ConnectionId> {
        match self.sockets().accepted(socket) {
            Some(accepted) => Ok(accepted.id),
            None => Err(format_err!(
                "connection: the guest created this socket itself"
            )),
        }
    }
}

impl p2::sockserve::handler::blocking_draining::Host for State {
    fn connection(&mut self, socket: Resource<TcpSocket2>) -> Result<ConnectionId> {
        self.connection_of(&socket)
    }

    fn draining(&mut self, connection: ConnectionId) -> Result<Resource<DynPollable>> {
        let found = self.connections.find(connection);
        if let Some((connection, _)) = &found
            && let Some(connection) = connection.upgrade()
        {
            connection.set_interrupt();
        }
        let due = self.table.push(Due(found))?;
        subscribe(&mut self.table, due)
    }
}

/// The pollable that `draining` returns: it is ready when the connection is to be
/// handed over.
struct Due(Option<(Weak<Connection>, Arc<Notice>)>);

#[async_trait]
impl Pollable for Due {
    async fn ready(&mut self) {
        match &self.0 {
            Some((connection, notice)) => {
                Connection::wait_until_told_if_open(connection.clone(), Arc::clone(notice)).await;
            }
            None => pending().await,
        }
    }
}

impl p3::sockserve::handler::concurrent_draining::Host for State {
    fn connection(&mut self, socket: Resource<TcpSocket3>) -> Result<ConnectionId> {
        self.connection_of(&socket)
    }
}

impl p3::sockserve::handler::concurrent_draining::HostWithStore<State> for Draining {
    async fn draining(store: &Accessor<State, Self>, connection: ConnectionId) -> Result<()> {
        match store.with(|mut access| access.get().connections.find(connection)) {
            Some((connection, notice)) => {
                Connection::wait_until_told_if_open(connection, notice).await
            }
            None => pending().await,
        }
        Ok(())
    }
}
