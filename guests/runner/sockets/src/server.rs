//! The listeners, and the loop over all that can become ready.

use crate::Component;
use crate::connection::{Closing, Connection, Parts};
use crate::exports::sockserve::runner::server::{Event, Guest, Opened, Readiness, Ready};
use crate::exports::wasi::io::streams::{InputStream, OutputStream};
use crate::exports::wasi::sockets0_2_12::tcp::TcpSocket;
use crate::listener::{Listener, socket_addr};
use crate::output::{print, print_error};
use crate::streams::{Input, Output};
use crate::tcp::Socket;
use crate::wasi::cli0_2_12::environment::get_arguments;
use crate::wasi::cli0_2_12::exit::exit;
use crate::wasi::clocks0_2_12::monotonic_clock::{
    Instant, now, subscribe_duration, subscribe_instant,
};
use crate::wasi::io::poll::{Pollable, poll};
use crate::wasi::sockets0_2_12::network::ErrorCode;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};
use runner_base::Global;
use runner_options::{Options, Request, Transport, USAGE};

/// The most connections that are ready at once, for the handler.
///
/// Up to 48, wasmtime's sockets spend a budget of Tokio's: 128 operations, until the
/// task has waited for something (wasmtime #14174). Each ready pollable of a `poll` is an
/// operation. After a `poll` with 128 of them each read finds nothing, however often it
/// is tried. So few are taken at once that what follows fits into the budget.
const AT_ONCE: usize = 32;

/// If so many are ready, there may be others of which the budget lets nobody know. Then
/// connections are asked in turn, [`AT_ONCE`] at a time.
const MANY: usize = 64;

/// So many waits for [`AT_ONCE`] connections that are ready spend the budget.
const SPENDING: u32 = 5;

/// So many times a connection comes first that finds nothing.
const PATIENCE: u32 = 8;

/// So many connections are accepted before others have their turn.
const ACCEPTED_AT_ONCE: usize = 16;

/// How long nothing is accepted when the system has no room for a connection.
const PAUSE: Instant = 100_000_000;

static SERVER: Global<Server> = Global::new(Server::new());

struct Server {
    name: String,
    contract: String,
    max_connections: usize,
    linger: Instant,
    listeners: Vec<Listener>,
    connections: BTreeMap<u64, Rc<Connection>>,
    closing: Vec<Closing>,
    /// The last number of a connection.
    last: u64,
    /// The last connection that has had its turn: those after it come first.
    served: u64,
    /// Those that were ready the last time, in their order.
    batch: Vec<u64>,
    /// How many times in a row the first of them has found nothing.
    waits: u32,
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
        let mut arguments = get_arguments().into_iter();
        let program = arguments.next();
        let started = SERVER.with(|server| {
            server.name = runner_options::service_name(program);
            server.contract = contract;
            match runner_options::parse(Transport::Tcp, arguments)? {
                Request::Serve(options) => server.listen(&options),
                Request::Help => {
                    print(USAGE.into());
                    exit(Ok(()));
                    Ok(())
                }
            }
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

/// Why a pollable is in the list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Listener(usize),
    Readable(u64),
    Writable(u64),
    /// By its place in the list of those that end.
    Closing(usize),
    Time,
}

impl Wait {
    /// The connection that is ready for the handler.
    fn connection(self) -> Option<u64> {
        match self {
            Self::Readable(id) | Self::Writable(id) => Some(id),
            Self::Listener(_) | Self::Closing(_) | Self::Time => None,
        }
    }
}

impl Server {
    const fn new() -> Self {
        Self {
            name: String::new(),
            contract: String::new(),
            max_connections: 1,
            linger: 0,
            listeners: Vec::new(),
            connections: BTreeMap::new(),
            closing: Vec::new(),
            last: 0,
            served: 0,
            batch: Vec::new(),
            waits: 0,
            kept: Vec::new(),
            tick: None,
            pause: None,
        }
    }

    fn listen(&mut self, options: &Options) -> Result<(), String> {
        self.max_connections = options.max_connections;
        self.linger = Instant::try_from(options.linger.as_nanos()).unwrap_or(Instant::MAX);
        for &address in &options.listen {
            self.listeners.push(Listener::new(address)?);
        }
        // All are there before anybody is told of one.
        for listener in &self.listeners {
            let (name, contract) = (&self.name, &self.contract);
            let address = listener.address;
            print(runner_options::ready_line(
                Transport::Tcp,
                address,
                name,
                contract,
            ));
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

    /// Waits until something is ready, and returns what.
    fn ready(&mut self) -> Vec<Wait> {
        let has_room = self.connections.len() + self.closing.len() < self.max_connections;
        self.choose_first();
        let mut list: Vec<(Wait, &Pollable)> = Vec::new();
        if has_room && self.pause.is_none() {
            let listeners = self.listeners.iter().enumerate();
            list.extend(listeners.map(|(place, it)| (Wait::Listener(place), &it.acceptable)));
        }
        // Those that had no turn come first.
        let after = self.connections.range((Excluded(self.served), Unbounded));
        let in_turn = after.chain(self.connections.range(..=self.served));
        // The pollables are borrowed from their connections until after the wait.
        let borrowed: Vec<_> = in_turn
            .map(|(id, connection)| (*id, connection.interest.get(), connection.parts()))
            .filter(|(_, interest, _)| !interest.is_empty())
            .collect();
        for (id, interest, parts) in &borrowed {
            let Some(parts) = parts.as_ref() else {
                continue;
            };
            if interest.contains(Readiness::READABLE) {
                list.push((Wait::Readable(*id), &parts.readable));
            }
            if interest.contains(Readiness::WRITABLE) {
                list.push((Wait::Writable(*id), &parts.writable));
            }
        }
        for (place, closing) in self.closing.iter().enumerate() {
            if !closing.is_sent {
                list.push((Wait::Closing(place), &closing.parts.writable));
            }
            if !closing.is_read {
                list.push((Wait::Closing(place), &closing.parts.readable));
            }
        }
        let deadlines = self.closing.iter().map(|closing| closing.deadline);
        let next_time = deadlines.chain(self.tick).chain(self.pause).min();
        // With all places taken by connections at rest there is nothing else to wait for.
        let next_time = next_time.or_else(|| list.is_empty().then_some(Instant::MAX));
        let timer = next_time.map(subscribe_instant);
        list.extend(timer.iter().map(|timer| (Wait::Time, timer)));

        let mut ready = wait_for(&list);
        let count = ready.iter().filter(|wait| wait.connection().is_some());
        let count = count.count();
        let soon;
        if count > AT_ONCE {
            // What else may be ready is tried, because the budget may have hidden it.
            let others = list.iter().map(|(wait, _)| *wait);
            let others: Vec<Wait> = others.filter(|it| it.connection().is_none()).collect();
            let mut taken = 0;
            list.retain(|(wait, _)| {
                let is_asked = count >= MANY || ready.contains(wait);
                let is_taken = wait.connection().is_some() && is_asked && taken < AT_ONCE;
                taken += usize::from(is_taken);
                is_taken
            });
            // It waits for a millisecond at most if none of these is ready.
            soon = subscribe_duration(1);
            list.push((Wait::Time, &soon));
            // Spends what is left of the budget. The wait after that gets a new one.
            let mut before = 0;
            for _ in 0..SPENDING {
                let found = wait_for(&list).len();
                if found < before {
                    break;
                }
                before = found;
            }
            ready = wait_for(&list);
            if !ready.iter().any(|wait| wait.connection().is_some()) {
                let mut asked = list.iter().filter_map(|(wait, _)| wait.connection());
                self.served = asked.next_back().unwrap_or(self.served);
            }
            ready.extend(others);
        }
        self.batch = ready.iter().filter_map(|wait| wait.connection()).collect();
        for id in &self.batch {
            if let Some(connection) = self.connections.get(id) {
                connection.has_moved.set(false);
            }
        }
        ready
    }

    /// Goes on after the connections that have found something. A connection that was
    /// ready and found nothing, because the budget was spent before its turn, comes first
    /// again; but not for ever, because it may be its handler's will.
    fn choose_first(&mut self) {
        let has_moved = |id: &&u64| self.connections.get(id).is_none_or(|it| it.has_moved.get());
        let last = self.batch.iter().take_while(has_moved).last().copied();
        if last.is_none() && !self.batch.is_empty() {
            self.waits += 1;
        }
        let skipped = (self.waits >= PATIENCE).then(|| self.batch.first().copied());
        if let Some(last) = last.or(skipped.flatten()) {
            self.served = last;
            self.waits = 0;
        }
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

/// Waits until something of the list is ready, and returns what, in the list's order.
fn wait_for(list: &[(Wait, &Pollable)]) -> Vec<Wait> {
    let pollables: Vec<&Pollable> = list.iter().map(|(_, pollable)| *pollable).collect();
    let mut indexes = poll(&pollables);
    indexes.sort_unstable();
    let places = indexes
        .into_iter()
        .filter_map(|index| usize::try_from(index).ok());
    places
        .filter_map(|place| list.get(place).map(|(wait, _)| *wait))
        .collect()
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
