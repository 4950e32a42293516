//! The echo family under the contract `evented`: one instance, and one call per batch
//! of events, which never waits.

use echo_protocol::{Echo, EchoProtocol, Mode};
use sockserve_handler::hand_over::{self, HandOver, WitState};
use sockserve_handler::p2::evented::{
    Change, Connection, ConnectionId, Event, Handler, Interest, READS, Served,
};
use sockserve_handler::p2::{CHUNK, peer, reading};
use sockserve_handler::session::{Conversation, State};
use std::cell::RefCell;
use std::collections::BTreeMap;
use wasi::io::streams::StreamError;

struct Component;

sockserve_handler::p2::evented::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::rolling_hand_over!();
sockserve_handler::check_at_start!(|| sockserve_handler::option::<Mode>("MODE"));

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server {
        protocol: EchoProtocol {
            mode: sockserve_handler::option_or_trap("MODE"),
        },
        peers: BTreeMap::new(),
    });
}

struct Server {
    protocol: EchoProtocol,
    peers: BTreeMap<ConnectionId, Peer>,
}

enum Peer {
    /// The host moves the bytes from stream to stream.
    Stream(Connection),
    /// A conversation. It is boxed so that the `Stream` peers, which may be many, take
    /// little memory.
    Session(Box<Served<Echo>>),
}

impl Handler for Component {
    fn turn(events: Vec<Event>) -> Vec<Change> {
        SERVER.with_borrow_mut(|server| {
            reading::begin_turn(events)
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
                let Ok(talk) = self.open_conversation(id, &connection) else {
                    return Some(Change::Close(id));
                };
                let served = Box::new(Served { connection, talk });
                self.peers.insert(id, Peer::Session(served));
                self.advance(id, false)
            }
            Event::Ready(ready) => self.advance(ready.connection, reading::may_read(&ready)),
            Event::Tick => None,
        }
    }

    fn open_conversation(
        &self,
        id: ConnectionId,
        connection: &Connection,
    ) -> Result<Conversation<Echo>, String> {
        hand_over::open_conversation(&self.protocol, id, || peer(&connection.socket))
    }

    /// Does what can be done now for a connection.
    fn advance(&mut self, id: ConnectionId, can_read: bool) -> Option<Change> {
        let peer = self.peers.get_mut(&id)?;
        let (connection, next) = match peer {
            // It has room for output, and to use that it reads.
            Peer::Stream(_) if !can_read && reading::put_off(id) => return None,
            Peer::Stream(connection) => {
                let next = echo(connection);
                (connection, next)
            }
            Peer::Session(served) => {
                let next = served.advance(can_read);
                (&mut served.connection, next)
            }
        };
        match next {
            Some(interest) => {
                let change = connection.set_interest(id, interest);
                if self.protocol.mode == Mode::Stream && interest == Interest::READABLE {
                    self.stream(id);
                }
                change
            }
            None => {
                self.peers.remove(&id);
                Some(Change::Close(id))
            }
        }
    }

    /// Lets the host move the bytes from now on: the conversation has no more output.
    fn stream(&mut self, id: ConnectionId) {
        let session = |_: &ConnectionId, peer: &mut Peer| matches!(peer, Peer::Session(_));
        if let Some((_, Peer::Session(served))) = self.peers.extract_if(id..=id, session).next() {
            self.peers.insert(id, Peer::Stream(served.connection));
        }
    }

    fn hand_over(&mut self, id: ConnectionId) -> Option<State> {
        let mut talk = match self.peers.remove(&id)? {
            Peer::Session(served) => served.talk,
            Peer::Stream(connection) => self.open_conversation(id, &connection).ok()?,
        };
        hand_over::save::<EchoProtocol>(&mut talk)
    }
}

/// Echoes what can be read and written now. Returns the new interest, or `None` after
/// end of file or an error.
///
/// It never reads more than it can write. So the guest holds no bytes, and a peer that
/// does not read is held back.
fn echo(connection: &Connection) -> Option<Interest> {
    for _ in 0..READS {
        let moved = connection.output.splice(&connection.input, CHUNK as u64);
        match moved {
            Ok(0) if connection.permit().ok()? == 0 => return Some(Interest::WRITABLE),
            // There may be more.
            Ok(moved) if moved == CHUNK as u64 && !reading::is_over() => {
                reading::note_read(CHUNK);
            }
            Ok(_) => break,
            Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => return None,
        }
    }
    Some(Interest::READABLE)
}
