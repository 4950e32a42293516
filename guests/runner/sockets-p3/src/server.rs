//! The listeners, and how many connections may be open.

use crate::Component;
use crate::command::{options, print, print_error};
use crate::connection::Connection;
use crate::event::Event;
use crate::exports::sockserve::runner::concurrent_server::{Guest, Opened};
use crate::exports::wasi::sockets0_3_0::types::TcpSocket;
use crate::listener::{Listener, socket_addr};
use crate::tcp::Socket;
use crate::wasi::clocks0_3_0::monotonic_clock::wait_for;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use runner_base::Global;
use runner_options::{Options, Transport};

/// After so many connections that were gone at once, the next ones are waited for.
const FAILED_AT_ONCE: u32 = 8;

/// How long, in nanoseconds.
const PAUSE: u64 = 100_000_000;

static SERVER: Global<Server> = Global::new(Server::new());

struct Server {
    name: String,
    max_connections: usize,
    linger: u64,
    /// `None` while somebody accepts from it.
    listeners: Vec<Option<Listener>>,
    connections: BTreeMap<u64, Rc<Connection>>,
    /// Connections that are open or end.
    count: usize,
    /// Happens when one has ended, if nobody has known room before.
    room: Option<Rc<Event>>,
    /// The last number of a connection.
    last: u64,
}

/// The name of the service.
pub(crate) fn name() -> String {
    SERVER.with(|server| server.name.clone())
}

impl Guest for Component {
    fn start(contract: String) -> Result<u32, ()> {
        let started = options(Transport::Tcp).and_then(|(name, options)| {
            SERVER.with(|server| server.listen(name, &contract, &options))
        });
        started.map_err(print_error)
    }

    async fn accept(listener: u32) -> Option<Opened> {
        let place = usize::try_from(listener).ok()?;
        let mut listener = SERVER.with(|server| server.listeners.get_mut(place)?.take())?;
        let mut failed = 0;
        let opened = loop {
            while let Some(room) = SERVER.with(Server::take_place) {
                room.wait().await;
            }
            let Some(socket) = listener.accepted.next().await else {
                break None;
            };
            match SERVER.with(|server| server.open(socket)) {
                Some(opened) => break Some(opened),
                // The peer has gone already; or the system has no descriptor for it, which
                // looks the same, and goes on for as long as it has none.
                None => SERVER.with(Server::free_place),
            }
            failed += 1;
            if failed >= FAILED_AT_ONCE {
                wait_for(PAUSE).await;
            }
        };
        SERVER.with(|server| {
            if let Some(free) = server.listeners.get_mut(place) {
                *free = Some(listener);
            }
        });
        opened
    }

    async fn carry(connection: u64) {
        let found = SERVER.with(|server| {
            let connection = server.connections.get(&connection)?;
            Some((connection.clone(), server.linger))
        });
        let Some((found, linger)) = found else {
            return;
        };
        found.carry(linger).await;
        SERVER.with(|server| {
            server.connections.remove(&connection);
            server.free_place();
        });
    }

    fn handled(connection: u64, failure: Option<String>) {
        let found = SERVER.with(|server| server.connections.get(&connection).cloned());
        let Some(found) = found else {
            return;
        };
        if let Some(reason) = failure {
            print_error(runner_options::failure_line(&reason, found.id, &found.peer));
        }
        found.is_over.happen();
    }
}

impl Server {
    const fn new() -> Self {
        Self {
            name: String::new(),
            max_connections: 1,
            linger: 0,
            listeners: Vec::new(),
            connections: BTreeMap::new(),
            count: 0,
            room: None,
            last: 0,
        }
    }

    /// Listens, and returns at how many places.
    fn listen(&mut self, name: String, contract: &str, options: &Options) -> Result<u32, String> {
        self.name = name;
        self.max_connections = options.max_connections;
        self.linger = u64::try_from(options.linger.as_nanos()).unwrap_or(u64::MAX);
        let mut lines = Vec::new();
        for &address in &options.listen {
            let listener = Listener::new(address)?;
            let address = listener.address;
            let line = runner_options::ready_line(Transport::Tcp, address, &self.name, contract);
            lines.push(line);
            self.listeners.push(Some(listener));
        }
        // All are there before anybody is told of one.
        lines.into_iter().for_each(print);
        Ok(u32::try_from(self.listeners.len()).unwrap_or(u32::MAX))
    }

    /// Takes a place for a connection. If none is free, returns what happens when one is.
    fn take_place(&mut self) -> Option<Rc<Event>> {
        if self.count < self.max_connections {
            self.count += 1;
            return None;
        }
        Some(self.room.get_or_insert_default().clone())
    }

    fn free_place(&mut self) {
        self.count = self.count.saturating_sub(1);
        if let Some(room) = self.room.take() {
            room.happen();
        }
    }

    /// A connection on the place that was taken for it.
    fn open(&mut self, socket: crate::wasi::sockets0_3_0::types::TcpSocket) -> Option<Opened> {
        let peer = socket_addr(socket.get_remote_address().ok()?).to_string();
        let local = socket_addr(socket.get_local_address().ok()?).to_string();
        self.last += 1;
        let connection = Connection::new(self.last, socket, peer, local);
        self.connections.insert(self.last, connection.clone());
        Some(Opened {
            connection: self.last,
            socket: TcpSocket::new(Socket::Of(connection)),
        })
    }
}
