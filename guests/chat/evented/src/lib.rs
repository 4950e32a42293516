//! The chat room under the contract `evented`: one instance holds the room, and
//! writes to a member only what its connection takes at once.

use std::cell::RefCell;
use std::collections::BTreeMap;

use chat_protocol::{READ_LIMIT, Room};
use shell_p2::evented::{Change, Connection, ConnectionId, Event, Handler, Interest, Opened};
use shell_p2::{CHUNK, peer};
use wasi::io::streams::StreamError;

struct Component;

shell_p2::evented::export!(Component);

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server {
        room: Room::new(shell::option_or_trap("QUEUE_LIMIT")),
        connections: BTreeMap::new(),
        changes: Vec::new(),
    });
}

/// A connection is a member of the room by its own identifier.
struct Server {
    room: Room,
    connections: BTreeMap<ConnectionId, Connection>,
    changes: Vec<Change>,
}

impl Handler for Component {
    fn turn(events: Vec<Event>) -> Vec<Change> {
        SERVER.with_borrow_mut(|server| {
            for event in events {
                server.event(event);
                // Writing once a turn is best, but a turn may bring in more than
                // fits the queues.
                if server.room.is_busy() {
                    server.deliver();
                }
            }
            server.deliver();
            shell::print_log(&mut server.room.take_log());
            std::mem::take(&mut server.changes)
        })
    }
}

impl Server {
    fn event(&mut self, event: Event) {
        match event {
            Event::Opened(opened) => self.open(opened),
            Event::Ready(ready) => {
                let id = ready.connection;
                if ready.readiness.can_read() {
                    self.receive(id);
                }
                self.write(id);
            }
            Event::Tick => {}
        }
    }

    fn open(&mut self, opened: Opened) {
        let id = opened.connection;
        match peer(&opened.socket) {
            Ok(address) => {
                self.connections.insert(id, Connection::from(opened));
                self.room.join(id, address);
            }
            // It has gone already.
            Err(_) => self.changes.push(Change::Close(id)),
        }
    }

    /// Reads one chunk. The rest comes as another event, when what this one has
    /// made wait has been written.
    fn receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        match connection.input.read(READ_LIMIT as u64) {
            Ok(chunk) => self.room.receive(id, &chunk),
            // End of file and a reset are all the same to a chat.
            Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => {
                // One that says nothing and ends at once is welcomed all the same.
                self.write(id);
                self.close(id);
            }
        }
    }

    /// Writes to everybody for whom something began to wait, until nothing new
    /// does: who is dropped or fails is announced to the others.
    fn deliver(&mut self) {
        loop {
            let waiting = self.room.take_waiting();
            let dropped = self.room.take_dropped();
            if waiting.is_empty() && dropped.is_empty() {
                return;
            }
            for id in dropped {
                self.close(id);
            }
            for id in waiting {
                self.write(id);
            }
        }
    }

    /// Writes what waits for a member as far as its connection permits it, and
    /// waits for more permission only if something is left.
    fn write(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let interest = loop {
            let pending = self.room.pending(id, CHUNK);
            if pending.is_empty() {
                break Interest::READABLE;
            }
            let written = connection.permit().and_then(|permit| {
                let piece = pending.get(..permit).unwrap_or(pending);
                connection.output.write(piece).map(|()| piece.len())
            });
            match written {
                Ok(0) => break Interest::READABLE | Interest::WRITABLE,
                Ok(count) => self.room.sent(id, count),
                Err(_) => return self.close(id),
            }
        };
        self.changes.extend(connection.wait_for(id, interest));
    }

    fn close(&mut self, id: ConnectionId) {
        if self.connections.remove(&id).is_some() {
            self.room.leave(id);
            self.changes.push(Change::Close(id));
        }
    }
}
