//! The chat room under the contract `evented`: one instance has the room, and writes to a
//! member only what its connection takes at once.
//!
//! During a hold no member is read from: a connection with input is put at rest until
//! the hold is over. A hold ends when enough was written, or by a tick.

use chat_protocol::{HoldId, MemberState, PATIENCE_NANOSECONDS, READ_LIMIT, Room};
use sockserve_handler::hand_over::{HandOver, WitState};
use sockserve_handler::p2::evented::{
    Change, Connection, ConnectionId, Event, Handler, Interest, Opened,
};
use sockserve_handler::p2::{CHUNK, peer};
use sockserve_handler::session::State;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wasi::io::streams::StreamError;

struct Component;

sockserve_handler::p2::evented::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::check_at_start!(room);

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server {
        room: room().unwrap_or_else(|error| sockserve_handler::trap(&error)),
        connections: BTreeMap::new(),
        accepted: BTreeSet::new(),
        skipped: None,
        held_back: BTreeSet::new(),
        unsaid: VecDeque::new(),
        timed: None,
        changes: Vec::new(),
    });
}

/// A room with its options set.
fn room() -> Result<Room, String> {
    Ok(Room::new(
        sockserve_handler::option("QUEUE_LIMIT")?,
        sockserve_handler::option("ROOM_LIMIT")?,
    ))
}

/// The member's id is that of its connection.
struct Server {
    room: Room,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Members that came from another room and whose connections are not opened yet.
    accepted: BTreeSet<ConnectionId>,
    /// The first connection that was readable in the last turn with such ones and was not read.
    skipped: Option<ConnectionId>,
    /// Connections that are at rest because of a hold.
    held_back: BTreeSet<ConnectionId>,
    /// What was read when a hold began and is not in the room yet. There is more than one
    /// entry only after members have come from another room.
    unsaid: VecDeque<(ConnectionId, Vec<u8>)>,
    /// The hold that the next tick is to end.
    timed: Option<HoldId>,
    changes: Vec<Change>,
}

impl Handler for Component {
    fn turn(events: Vec<Event>) -> Vec<Change> {
        SERVER.with_borrow_mut(|server| {
            let mut readable = Vec::new();
            for event in events {
                readable.extend(server.handle_event(event));
                // Many may join in one turn.
                if server.room.is_busy() {
                    server.deliver();
                }
            }
            server.deliver_and_release();
            server.receive_from(readable);
            server.deliver_and_release();
            server.set_timer();
            sockserve_handler::print_log(&mut server.room.take_log());
            std::mem::take(&mut server.changes)
        })
    }
}

impl HandOver for Component {
    fn hand_over(connection: ConnectionId) -> Option<WitState> {
        let state = SERVER.with_borrow_mut(|server| server.hand_over(connection));
        state.map(WitState::from)
    }

    fn accept(connection: ConnectionId, state: WitState) -> Result<(), String> {
        SERVER.with_borrow_mut(|server| server.accept(connection, &state.into()))
    }
}

impl Server {
    /// Takes a member out of the room and drops its connection.
    fn hand_over(&mut self, id: ConnectionId) -> Option<State> {
        self.connections.remove(&id)?;
        self.held_back.remove(&id);
        let mut member = self.room.take(id)?;
        if let Some(index) = self.unsaid.iter().position(|(sender, _)| *sender == id) {
            let unsaid = self.unsaid.remove(index);
            member.unsaid = unsaid.map(|(_, unsaid)| unsaid).unwrap_or_default();
        }
        member.encode()
    }

    fn accept(&mut self, id: ConnectionId, state: &State) -> Result<(), String> {
        let mut member = MemberState::decode(state)?;
        let unsaid = std::mem::take(&mut member.unsaid);
        if !unsaid.is_empty() {
            self.unsaid.push_back((id, unsaid));
        }
        self.room.put(id, member);
        self.accepted.insert(id);
        Ok(())
    }

    /// Handles an event, but does not read. Returns the connection if it is to be read.
    fn handle_event(&mut self, event: Event) -> Option<ConnectionId> {
        match event {
            Event::Opened(opened) => self.open(opened),
            Event::Ready(ready) => {
                let id = ready.connection;
                self.write(id);
                return ready.readiness.can_read().then_some(id);
            }
            Event::Tick => {
                if let Some(hold) = self.timed {
                    self.room.end_hold(hold);
                }
            }
        }
        None
    }

    fn open(&mut self, opened: Opened) {
        let id = opened.connection;
        if self.accepted.remove(&id) {
            // The room may have dropped the member in the meantime.
            if self.room.is_member(id) {
                self.connections.insert(id, Connection::from(opened));
                self.write(id);
            } else {
                self.changes.push(Change::Close(id));
            }
            return;
        }
        match peer(&opened.socket) {
            Ok(address) => {
                self.connections.insert(id, Connection::from(opened));
                self.room.join(id, address);
            }
            // The peer has gone already.
            Err(_) => self.changes.push(Change::Close(id)),
        }
    }

    /// Reads from these connections until it is time to write. So a turn stays short.
    /// The rest will be ready again in the next turn, which begins with the first of
    /// them.
    fn receive_from(&mut self, mut readable: Vec<ConnectionId>) {
        if readable.is_empty() {
            return;
        }
        if self.is_held() {
            for id in readable {
                self.held_back.insert(id);
                self.write(id);
            }
            return;
        }
        let skipped = self.skipped.take();
        let first = readable.iter().position(|&id| Some(id) == skipped);
        readable.rotate_left(first.unwrap_or_default());
        let mut readable = readable.into_iter();
        while let Some(id) = readable.next() {
            self.receive(id);
            self.write(id);
            if self.is_held() || self.room.is_busy() {
                self.skipped = readable.next();
                return;
            }
        }
    }

    /// Whether no connection is to be read.
    fn is_held(&self) -> bool {
        self.room.hold().is_some() || !self.unsaid.is_empty()
    }

    /// Reads one chunk. If there is more to read, another event says so, after the lines
    /// of this chunk have been written.
    fn receive(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        match connection.input.read(READ_LIMIT as u64) {
            Ok(chunk) => self.say(id, &chunk),
            // End of file and a reset mean the same to a chat.
            Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => {
                // A peer that says nothing and ends at once gets its welcome too.
                self.write(id);
                self.close(id);
            }
        }
    }

    /// Puts a chunk into the room. If a hold begins, keeps the rest of the chunk.
    fn say(&mut self, id: ConnectionId, chunk: &[u8]) {
        let taken = self.room.receive(id, chunk);
        if let Some(rest @ [_, ..]) = chunk.get(taken..) {
            self.unsaid.push_front((id, rest.to_vec()));
            self.held_back.insert(id);
        }
    }

    /// Writes what is queued. If there is no hold then, reads again from the connections
    /// that were at rest.
    fn deliver_and_release(&mut self) {
        self.deliver();
        if self.room.hold().is_none()
            && let Some((id, unsaid)) = self.unsaid.pop_front()
        {
            self.say(id, &unsaid);
            self.deliver();
        }
        if !self.is_held() {
            for id in std::mem::take(&mut self.held_back) {
                self.write(id);
            }
            self.deliver();
        }
    }

    /// Sets the timer that ends a hold. If there is no hold, but something to put into the
    /// room, asks for another turn at once.
    fn set_timer(&mut self) {
        let hold = self.room.hold();
        if hold.is_none() && !self.unsaid.is_empty() {
            self.changes.push(Change::TickAfter(0));
        } else if hold.is_some() && hold != self.timed {
            self.changes.push(Change::TickAfter(PATIENCE_NANOSECONDS));
        }
        self.timed = hold;
    }

    /// Writes to all members whose queues got something. This repeats, because a member
    /// that is dropped or fails is announced to the others.
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

    /// Writes a member's queue as far as its connection permits. Sets the interest in more
    /// room only if something is left.
    fn write(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
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
                Ok(count) => self.room.consume(id, count),
                Err(_) => return self.close(id),
            }
        }
        if self.held_back.contains(&id) {
            interest -= Interest::READABLE;
        }
        self.changes.extend(connection.set_interest(id, interest));
    }

    fn close(&mut self, id: ConnectionId) {
        if self.connections.remove(&id).is_some() {
            self.room.leave(id);
            self.changes.push(Change::Close(id));
        }
    }
}
