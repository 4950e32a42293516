//! The chat room under the contract `evented`: one instance holds the room, and
//! writes to a member only what its connection takes at once.
//!
//! While there is a hold nobody is read from. Whoever has something to say by then
//! is put at rest, and goes on when the hold is over: because enough was written,
//! or by a tick.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use chat_protocol::{HoldId, PATIENCE_NANOSECONDS, READ_LIMIT, Room};
use shell_p2::evented::{Change, Connection, ConnectionId, Event, Handler, Interest, Opened};
use shell_p2::{CHUNK, peer};
use wasi::io::streams::StreamError;

struct Component;

shell_p2::evented::export!(Component);

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server {
        room: Room::new(
            shell::option_or_trap("QUEUE_LIMIT"),
            shell::option_or_trap("ROOM_LIMIT"),
        ),
        members: BTreeMap::new(),
        held_back: VecDeque::new(),
        timed: None,
        changes: Vec::new(),
    });
}

/// A connection is a member of the room by its own identifier.
struct Server {
    room: Room,
    members: BTreeMap<ConnectionId, Member>,
    /// Those at rest because of a hold, the first of them first. Some may have been
    /// closed meanwhile.
    held_back: VecDeque<ConnectionId>,
    /// The hold that the next tick is to end.
    timed: Option<HoldId>,
    changes: Vec<Change>,
}

struct Member {
    connection: Connection,
    held_back: bool,
    /// What was read before a hold and is not in the room yet.
    unsaid: Vec<u8>,
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
            server.go_on();
            server.set_timer();
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
            Event::Tick => {
                if let Some(hold) = self.timed {
                    self.room.end_hold(hold);
                }
            }
        }
    }

    fn open(&mut self, opened: Opened) {
        let id = opened.connection;
        match peer(&opened.socket) {
            Ok(address) => {
                let member = Member {
                    connection: Connection::from(opened),
                    held_back: false,
                    unsaid: Vec::new(),
                };
                self.members.insert(id, member);
                self.room.join(id, address);
            }
            // It has gone already.
            Err(_) => self.changes.push(Change::Close(id)),
        }
    }

    /// Reads one chunk. The rest comes as another event, when what this one has
    /// made wait has been written.
    fn receive(&mut self, id: ConnectionId) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        // One that hangs up is reported even so, until the hold is over.
        if member.held_back {
            return;
        }
        if self.room.hold().is_some() {
            return self.hold_back(id, &[]);
        }
        match member.connection.input.read(READ_LIMIT as u64) {
            Ok(chunk) => self.say(id, &chunk),
            // End of file and a reset are all the same to a chat.
            Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => {
                // One that says nothing and ends at once is welcomed all the same.
                self.write(id);
                self.close(id);
            }
        }
    }

    /// Puts a chunk into the room, writing where that makes a hold. What a hold
    /// leaves of it is kept.
    fn say(&mut self, id: ConnectionId, chunk: &[u8]) {
        let mut rest = chunk;
        loop {
            let taken = self.room.receive(id, rest);
            rest = rest.get(taken..).unwrap_or_default();
            if rest.is_empty() {
                return;
            }
            self.deliver();
            if self.room.hold().is_some() {
                return self.hold_back(id, rest);
            }
        }
    }

    fn hold_back(&mut self, id: ConnectionId, unsaid: &[u8]) {
        if let Some(member) = self.members.get_mut(&id) {
            member.held_back = true;
            member.unsaid = unsaid.to_vec();
            self.held_back.push_back(id);
        }
    }

    /// Writes, and lets those who were held back go on, each in its turn, for as
    /// long as there is no hold.
    fn go_on(&mut self) {
        loop {
            self.deliver();
            if self.room.hold().is_some() || self.held_back.is_empty() {
                return;
            }
            while !self.room.is_busy()
                && let Some(id) = self.held_back.pop_front()
            {
                if let Some(member) = self.members.get_mut(&id) {
                    member.held_back = false;
                    let unsaid = std::mem::take(&mut member.unsaid);
                    self.say(id, &unsaid);
                    self.write(id);
                }
            }
        }
    }

    /// Sees to it that every hold comes to an end.
    fn set_timer(&mut self) {
        let hold = self.room.hold();
        if hold.is_some() && hold != self.timed {
            self.changes.push(Change::TickAfter(PATIENCE_NANOSECONDS));
        }
        self.timed = hold;
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
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let connection = &mut member.connection;
        let mut interest = Interest::READABLE;
        while self.room.has_pending(id) {
            let written = connection.permit().and_then(|permit| {
                let piece = self.room.pending(id, permit.min(CHUNK));
                connection.output.write(&piece).map(|()| piece.len())
            });
            match written {
                Ok(0) => {
                    interest |= Interest::WRITABLE;
                    break;
                }
                Ok(count) => self.room.sent(id, count),
                Err(_) => return self.close(id),
            }
        }
        if member.held_back {
            interest -= Interest::READABLE;
        }
        self.changes.extend(connection.wait_for(id, interest));
    }

    fn close(&mut self, id: ConnectionId) {
        if self.members.remove(&id).is_some() {
            self.room.leave(id);
            self.changes.push(Change::Close(id));
        }
    }
}
