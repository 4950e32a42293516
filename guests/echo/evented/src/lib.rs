//! The echo family under the contract `evented`: one instance, one call for a
//! batch of events, and no waiting in between.

use std::cell::RefCell;
use std::collections::BTreeMap;

use echo_protocol::{Echo, Mode};
use shell_p2::evented::{Change, Connection, ConnectionId, Event, Handler, Interest, Served};
use shell_p2::{CHUNK, peer};
use wasi::io::streams::StreamError;

struct Component;

shell_p2::evented::export!(Component);

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server {
        mode: shell::option_or_trap("MODE"),
        peers: BTreeMap::new(),
    });
}

struct Server {
    mode: Mode,
    peers: BTreeMap<ConnectionId, Peer>,
}

enum Peer {
    /// Bytes are moved from stream to stream.
    Stream(Connection),
    /// Boxed, because the idle connections of a stream echo are many.
    Session(Box<Served<Echo>>),
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

impl Server {
    fn event(&mut self, event: Event) -> Option<Change> {
        match event {
            Event::Opened(opened) => {
                let id = opened.connection;
                let connection = Connection::from(opened);
                if self.mode == Mode::Stream {
                    // What it sends first comes as an event of its own.
                    self.peers.insert(id, Peer::Stream(connection));
                    return None;
                }
                let Ok(address) = peer(&connection.socket) else {
                    return Some(Change::Close(id));
                };
                let session = Echo::new(self.mode, address.ip());
                let served = Box::new(Served::new(connection, session));
                self.peers.insert(id, Peer::Session(served));
                self.advance(id, false)
            }
            Event::Ready(ready) => self.advance(ready.connection, ready.readiness.can_read()),
            Event::Tick => None,
        }
    }

    /// Does what can be done now for a connection.
    fn advance(&mut self, id: ConnectionId, can_read: bool) -> Option<Change> {
        let peer = self.peers.get_mut(&id)?;
        let next = match peer {
            Peer::Stream(connection) => echo(connection),
            Peer::Session(served) => served.advance(can_read),
        };
        let connection = match peer {
            Peer::Stream(connection) => connection,
            Peer::Session(served) => &mut served.connection,
        };
        match next {
            Some(interest) => connection.wait_for(id, interest),
            None => {
                self.peers.remove(&id);
                Some(Change::Close(id))
            }
        }
    }
}

/// Echoes what can be read and written now, and says what to wait for: nothing
/// after end of file or an error.
///
/// Never reads more than it may write, so nothing is ever held in here, and a
/// peer that does not read is held back by its own connection.
fn echo(connection: &Connection) -> Option<Interest> {
    let splice = |length| connection.output.splice(&connection.input, length);
    match splice(CHUNK as u64) {
        Ok(0) if connection.permit().ok()? == 0 => Some(Interest::WRITABLE),
        Ok(_) => Some(Interest::READABLE),
        Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => None,
    }
}
