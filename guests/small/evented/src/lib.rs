//! The small servers under the contract `evented`: one instance, and one call per batch
//! of events, which never waits.

use protocol::State;
use shell::hand_over::{self, HandOver, WitState};
use shell_p2::evented::{Change, Connection, ConnectionId, Event, Handler, Interest, Served};
use shell_p2::{CHUNK, peer};
use small_protocol::{Service, Small, SmallProtocol};
use std::cell::RefCell;
use std::collections::BTreeMap;

struct Component;

shell_p2::evented::export!(Component);
shell::hand_over::export!(Component);

/// How many pieces of the pattern one turn writes to a connection at most, so that the
/// others have their turn too.
const PIECES_PER_TURN: usize = 16;

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server {
        protocol: SmallProtocol {
            service: shell::option_or_trap("SERVICE"),
            quote: shell::option_or_trap("QUOTE"),
            clock: shell::unix_time,
        },
        peers: BTreeMap::new(),
    });
}

struct Server {
    protocol: SmallProtocol,
    peers: BTreeMap<ConnectionId, Served<Small>>,
}

impl Handler for Component {
    fn turn(events: Vec<Event>) -> Vec<Change> {
        SERVER.with_borrow_mut(|server| {
            events
                .into_iter()
                .filter_map(|event| server.event(event))
                .collect()
        })
    }
}

impl HandOver for Component {
    fn hand_over(connection: ConnectionId) -> Option<WitState> {
        let state = SERVER.with_borrow_mut(|server| server.hand_over(connection));
        state.map(WitState::from)
    }

    fn accept(connection: ConnectionId, state: WitState) -> Result<(), String> {
        SERVER.with_borrow(|server| hand_over::accept(&server.protocol, connection, state.into()))
    }
}

impl Server {
    fn event(&mut self, event: Event) -> Option<Change> {
        match event {
            Event::Opened(opened) => {
                let id = opened.connection;
                let connection = Connection::from(opened);
                let peer = || peer(&connection.socket);
                let Ok(talk) = hand_over::open_conversation(&self.protocol, id, peer) else {
                    return Some(Change::Close(id));
                };
                self.peers.insert(id, Served { connection, talk });
                self.advance(id, false)
            }
            Event::Ready(ready) => self.advance(ready.connection, ready.readiness.can_read()),
            Event::Tick => None,
        }
    }

    /// Does what can be done now for a connection.
    fn advance(&mut self, id: ConnectionId, can_read: bool) -> Option<Change> {
        let served = self.peers.get_mut(&id)?;
        let next = match self.protocol.service {
            Service::Chargen => chargen(served, can_read),
            Service::Discard | Service::Time | Service::Qotd => served.advance(can_read),
        };
        match next {
            Some(interest) => served.connection.set_interest(id, interest),
            None => {
                self.peers.remove(&id);
                Some(Change::Close(id))
            }
        }
    }

    fn hand_over(&mut self, id: ConnectionId) -> Option<State> {
        let mut served = self.peers.remove(&id)?;
        hand_over::save::<SmallProtocol>(&mut served.talk)
    }
}

/// Writes as much of the pattern as can be written now, and drops what has come. Returns
/// the new interest, or `None` when a write fails, which is the end of every connection
/// to chargen.
///
/// It is interested in both directions. So a peer that sends and does not read is never
/// held back.
fn chargen(served: &mut Served<Small>, can_read: bool) -> Option<Interest> {
    let Served { connection, talk } = served;
    if can_read && !talk.is_finished() && connection.input.skip(CHUNK as u64).is_err() {
        talk.end();
    }
    for _ in 0..PIECES_PER_TURN {
        let room = connection.permit().ok()?;
        if room == 0 {
            break;
        }
        if talk.output.bytes.is_empty() {
            talk.add_more();
        }
        let piece = talk.output.bytes.front(room);
        connection.output.write(piece).ok()?;
        let written = piece.len();
        talk.output.bytes.consume(written);
    }
    if talk.is_finished() {
        Some(Interest::WRITABLE)
    } else {
        Some(Interest::WRITABLE | Interest::READABLE)
    }
}
