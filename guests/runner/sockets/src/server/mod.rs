//! The listeners, and the loop over all that can become ready.
//!
//! [`turns`]: which of the connections that are ready have their turn.

mod turns;

use crate::Component;
use crate::command::{options, print, print_error};
use crate::connection::{Closing, Connection, Parts};
use crate::exports::sockserve::runner::server::{Event, Guest, Opened, Readiness, Ready};
use crate::exports::wasi::io::streams::{InputStream, OutputStream};
use crate::exports::wasi::sockets0_2_12::tcp::TcpSocket;
use crate::listener::{Listener, socket_addr};
use crate::streams::{Input, Output};
use crate::tcp::Socket;
use crate::wasi::clocks0_2_12::monotonic_clock::{Instant, now};
use crate::wasi::sockets0_2_12::network::ErrorCode;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use runner_base::Global;
use runner_options::{Options, Transport};
use turns::{Turns, Wait};

/// So many connections are accepted before others have their turn.
const ACCEPTED_AT_ONCE: usize = 16;

/// How long nothing is accepted when the system has no room for a connection.
const PAUSE: Instant = 100_000_000;

static SERVER: Global<Server> = Global::new(Server::new());

struct Server {
    name: String,
    max_connections: usize,
    linger: Instant,
    listeners: Vec<Listener>,
    connections: BTreeMap<u64, Rc<Connection>>,
    closing: Vec<Closing>,
    /// The last number of a connection.
    last: u64,
    turns: Turns,
    /// Those that have ended, of which the handler still holds something.
    kept: Vec<Closing>,
    tick: Option<Instant>,
    /// Nothing is accepted before this.
    pause: Option<Instant>,
}

/// The name of the service.
pub(crate) fn name() -> String {
    SERVER.with(|server| server.name.clone())
}

impl Guest for Component {
    fn start(contract: String) -> Result<(), ()> {
        let started = options(Transport::Tcp).and_then(|(name, options)| {
            SERVER.with(|server| server.listen(name, &contract, &options))
        });
        started.map_err(print_error)
    }

    fn accept() -> Opened {
        loop {
            let events = SERVER.with(|server| server.poll(1));
            for event in events {
                if let Event::Opened(opened) = event {
                    return opened;
                }
            }
        }
    }

    fn wait() -> Vec<Event> {
        loop {
            let events = SERVER.with(|server| server.poll(ACCEPTED_AT_ONCE));
            if !events.is_empty() {
                return events;
            }
        }
    }

    fn set_interest(connection: u64, interest: Readiness) {
        SERVER.with(|server| {
            if let Some(connection) = server.connections.get(&connection) {
                connection.interest.set(interest);
            }
        });
    }

    fn tick_after(nanoseconds: u64) {
        SERVER.with(|server| server.tick = Some(now().saturating_add(nanoseconds)));
    }

    fn close(connection: u64, failure: Option<String>) {
        SERVER.with(|server| server.close(connection, failure));
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
            closing: Vec::new(),
            last: 0,
            turns: Turns::new(),
            kept: Vec::new(),
            tick: None,
            pause: None,
        }
    }

    fn listen(&mut self, name: String, contract: &str, options: &Options) -> Result<(), String> {
        self.name = name;
        self.max_connections = options.max_connections;
        self.linger = Instant::try_from(options.linger.as_nanos()).unwrap_or(Instant::MAX);
        for &address in &options.listen {
            self.listeners.push(Listener::new(address)?);
        }
        // All are there before anybody is told of one.
        for listener in &self.listeners {
            let (name, address) = (&self.name, listener.address);
            let line = runner_options::ready_line(Transport::Tcp, address, name, contract);
            print(line);
        }
        Ok(())
    }

    /// Waits once, and accepts so many connections at most.
    fn poll(&mut self, most_accepted: usize) -> Vec<Event> {
        self.let_go();
        let mut events: Vec<Event> = Vec::new();
        for wait in self.ready() {
            match wait {
                Wait::Listener(index) => self.accept(index, most_accepted, &mut events),
                Wait::Readable(id) => push_ready(&mut events, id, Readiness::READABLE),
                Wait::Writable(id) => push_ready(&mut events, id, Readiness::WRITABLE),
                Wait::Closing(place) => {
                    if let Some(closing) = self.closing.get_mut(place) {
                        closing.step();
                    }
                }
                Wait::Time => {}
            }
        }
        let now = now();
        if self.tick.is_some_and(|tick| now >= tick) {
            self.tick = None;
            events.push(Event::Tick);
        }
        self.pause = self.pause.filter(|&end| now < end);
        self.kept.retain(|closing| !closing.is_let_go());
        let over = self.closing.extract_if(.., |it| it.is_over(now));
        self.kept
            .extend(over.filter(|closing| !closing.is_let_go()));
        events
    }

    fn accept(&mut self, index: usize, most: usize, events: &mut Vec<Event>) {
        for _ in 0..most {
            if self.connections.len() + self.closing.len() >= self.max_connections {
                return;
            }
            let Some(listener) = self.listeners.get(index) else {
                return;
            };
            match listener.socket.accept() {
                Ok((socket, input, output)) => {
                    let addresses = (socket.remote_address(), socket.local_address());
                    let parts = Parts::new(socket, input, output);
                    // Else the peer has gone already.
                    if let (Ok(peer), Ok(local)) = addresses {
                        let (peer, local) = (socket_addr(peer), socket_addr(local));
                        events.push(self.open(peer.to_string(), local.to_string(), parts));
                    }
                }
                Err(ErrorCode::WouldBlock) => return,
                // The peer has gone between the wait and the accept.
                Err(ErrorCode::ConnectionAborted | ErrorCode::ConnectionReset) => {}
                Err(code) => {
                    print_error(format!("cannot accept a connection: {}", code.name()));
                    self.pause = Some(now().saturating_add(PAUSE));
                    return;
                }
            }
        }
    }

    fn open(&mut self, peer: String, local: String, parts: Parts) -> Event {
        self.last += 1;
        let connection = Rc::new(Connection::new(self.last, peer, local, parts));
        let opened = Opened {
            connection: self.last,
            socket: TcpSocket::new(Socket::Of(connection.part())),
            input: InputStream::new(Input::Of(connection.part())),
            output: OutputStream::new(Output::Of(connection.part())),
        };
        self.connections.insert(self.last, connection);
        Event::Opened(opened)
    }

    fn close(&mut self, id: u64, failure: Option<String>) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if let Some(reason) = failure {
            let peer = &connection.peer;
            print_error(runner_options::failure_line(&reason, id, peer));
        }
        let deadline = now().saturating_add(self.linger);
        self.closing.extend(connection.close(deadline));
    }

    /// Closes the connections of which the handler has dropped everything.
    fn let_go(&mut self) {
        let dropped = self.connections.values().filter(|it| it.is_dropped());
        let dropped: Vec<u64> = dropped.map(|connection| connection.id).collect();
        for id in dropped {
            self.close(id, None);
        }
    }
}

fn push_ready(events: &mut Vec<Event>, id: u64, new: Readiness) {
    match events.last_mut() {
        Some(Event::Ready(ready)) if ready.connection == id => ready.readiness |= new,
        _ => events.push(Event::Ready(Ready {
            connection: id,
            readiness: new,
        })),
    }
}
