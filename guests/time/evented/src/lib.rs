//! The time family under the contract `evented`: one instance, one call for a
//! batch of events, and no waiting in between.

use std::cell::RefCell;
use std::collections::BTreeMap;

use shell_p2::evented::{Change, Connection, ConnectionId, Event, Handler, Served};
use time_protocol::{Mode, Terminator, Time};

struct Component;

shell_p2::evented::export!(Component);

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server {
        mode: shell::option_or_trap("MODE"),
        terminator: shell::option_or_trap("TERMINATOR"),
        peers: BTreeMap::new(),
    });
}

struct Server {
    mode: Mode,
    terminator: Terminator,
    peers: BTreeMap<ConnectionId, Served<Time>>,
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
                let session = Time::new(self.mode, &self.terminator, shell::unix_time);
                let served = Served::new(Connection::from(opened), session);
                self.peers.insert(id, served);
                self.advance(id, false)
            }
            Event::Ready(ready) => self.advance(ready.connection, ready.readiness.can_read()),
            Event::Tick => None,
        }
    }

    /// Does what can be done now for a connection.
    fn advance(&mut self, id: ConnectionId, can_read: bool) -> Option<Change> {
        let served = self.peers.get_mut(&id)?;
        match served.advance(can_read) {
            Some(interest) => served.connection.wait_for(id, interest),
            None => {
                self.peers.remove(&id);
                Some(Change::Close(id))
            }
        }
    }
}
