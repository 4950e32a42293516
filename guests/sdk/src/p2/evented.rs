//! The contract `evented`.
#![allow(missing_docs, reason = "wit-bindgen writes some items without them")]

use crate::hand_over;
use crate::p2::{CHUNK, peer, permit, reading};
use crate::session::{Conversation, Protocol, Session, State};
use std::collections::BTreeMap;
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::TcpSocket;

wit_bindgen::generate!({
    path: "wit",
    world: "evented-handler",
    with: {
        "wasi:clocks/monotonic-clock@0.2.12": wasi::clocks::monotonic_clock,
        "wasi:io/error@0.2.12": wasi::io::error,
        "wasi:io/poll@0.2.12": wasi::io::poll,
        "wasi:io/streams@0.2.12": wasi::io::streams,
        "wasi:sockets/network@0.2.12": wasi::sockets::network,
        "wasi:sockets/tcp@0.2.12": wasi::sockets::tcp,
    },
    pub_export_macro: true,
    default_bindings_module: "sockserve_handler::p2::evented",
});

pub use exports::sockserve::handler::evented::{
    Change, ConnectionId, Event, Failure, Guest as Handler, Interest, InterestChange, Opened,
    Readiness, Ready,
};

/// How many reads of one connection a turn has at most: 1 MiB, if each is filled. Then the
/// other connections get their turn.
///
/// While reads are filled it is cheaper to stay with a connection than to go to the next one
/// after each, because the kernel then handles its segments together. Native servers on Tokio
/// stay for 128 operations.
pub const READS: usize = 16;

impl Readiness {
    /// Whether a read returns something. That may be an error.
    pub fn can_read(self) -> bool {
        self.intersects(Self::READABLE | Self::HANG_UP | Self::ERROR)
    }
}

/// The change that makes `connection` wait for `interest`.
pub fn interest_change(connection: ConnectionId, interest: Interest) -> Change {
    Change::Interest(InterestChange {
        connection,
        interest,
    })
}

/// The change that closes `connection` as failed, with the reason for the log.
pub fn fail_change(connection: ConnectionId, reason: &str) -> Change {
    Change::Fail(Failure {
        connection,
        reason: reason.to_owned(),
    })
}

/// A connection. Its parts are dropped in this order: in other hosts a stream may be
/// a child of its socket, and then has to be dropped first.
pub struct Connection {
    pub input: InputStream,
    pub output: OutputStream,
    pub socket: TcpSocket,
    interest: Interest,
}

impl From<Opened> for Connection {
    fn from(opened: Opened) -> Self {
        Self {
            input: opened.input,
            output: opened.output,
            socket: opened.socket,
            interest: Interest::READABLE,
        }
    }
}

impl Connection {
    /// Sets the interest. Returns the change, unless the interest was the same before.
    pub fn set_interest(&mut self, connection: ConnectionId, new: Interest) -> Option<Change> {
        (std::mem::replace(&mut self.interest, new) != new)
            .then(|| interest_change(connection, new))
    }

    /// How many bytes can be written now.
    pub fn permit(&self) -> Result<usize, StreamError> {
        permit(&self.output)
    }
}

/// A conversation and the connection that it is carried over.
///
/// Reads only while no output is waiting. So it holds back a peer that sends faster
/// than it reads.
pub struct Served<S> {
    pub connection: Connection,
    pub talk: Conversation<S>,
}

impl<S: Session> Served<S> {
    /// Does what can be done now. Returns the new interest of the connection, or `None`
    /// if the connection is to be closed. Reads only if `can_read` is true.
    pub fn advance(&mut self, can_read: bool) -> Option<Interest> {
        let mut delivered = self.deliver().ok()?;
        let mut reads = if can_read { READS } else { 0 };
        while delivered && reads > 0 && !self.talk.is_finished() {
            let is_filled = self.receive().ok()?;
            delivered = self.deliver().ok()?;
            let goes_on = is_filled && !reading::is_over();
            reads = if goes_on { reads - 1 } else { 0 };
        }
        if !self.talk.output.bytes.is_empty() {
            return Some(Interest::WRITABLE);
        }
        (!self.talk.is_finished()).then_some(Interest::READABLE)
    }

    /// Reads one chunk and gives it to the session. Returns whether the read was filled: then
    /// there may be more.
    fn receive(&mut self) -> Result<bool, StreamError> {
        let limit = self.talk.session.read_limit();
        match self
            .connection
            .input
            .read(u64::try_from(limit).unwrap_or(u64::MAX))
        {
            Ok(chunk) if chunk.is_empty() => Ok(false),
            Ok(chunk) => {
                reading::note_read(chunk.len());
                self.talk.receive(&chunk);
                Ok(chunk.len() >= limit.min(CHUNK))
            }
            Err(StreamError::Closed) => {
                self.talk.end();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Prints and writes the output of the session, as far as the stream permits.
    /// Returns whether everything is written.
    fn deliver(&mut self) -> Result<bool, StreamError> {
        loop {
            let output = &mut self.talk.output;
            crate::print_log(&mut output.log);
            while !output.bytes.is_empty() {
                let permit = self.connection.permit()?;
                if permit == 0 {
                    return Ok(false);
                }
                let piece = output.bytes.front(permit);
                self.connection.output.write(piece)?;
                let written = piece.len();
                output.bytes.consume(written);
            }
            if !self.talk.add_more() {
                return Ok(true);
            }
        }
    }
}

/// All connections of a component that has one protocol.
pub struct Server<P: Protocol> {
    protocol: P,
    peers: BTreeMap<ConnectionId, Served<P::Session>>,
}

impl<P: Protocol> Server<P> {
    pub fn new(protocol: P) -> Self {
        Self {
            protocol,
            peers: BTreeMap::new(),
        }
    }

    /// The protocol, with its options set.
    pub fn protocol(&self) -> &P {
        &self.protocol
    }

    pub fn turn(&mut self, events: Vec<Event>) -> Vec<Change> {
        self.turn_by(events, Served::advance)
    }

    /// As [`turn`](Server::turn), but `advance` does what can be done for a connection; it
    /// returns as [`Served::advance`] does.
    pub fn turn_by(
        &mut self,
        events: Vec<Event>,
        advance: impl Fn(&mut Served<P::Session>, bool) -> Option<Interest>,
    ) -> Vec<Change> {
        reading::begin_turn(events)
            .into_iter()
            .filter_map(|event| self.event(event, &advance))
            .collect()
    }

    fn event(
        &mut self,
        event: Event,
        advance: impl Fn(&mut Served<P::Session>, bool) -> Option<Interest>,
    ) -> Option<Change> {
        match event {
            Event::Opened(opened) => {
                let id = opened.connection;
                let connection = Connection::from(opened);
                let peer = || peer(&connection.socket);
                let Ok(talk) = hand_over::open_conversation(&self.protocol, id, peer) else {
                    // The peer has gone already.
                    return Some(Change::Close(id));
                };
                self.peers.insert(id, Served { connection, talk });
                self.advance(id, false, advance)
            }
            Event::Ready(ready) => {
                self.advance(ready.connection, reading::may_read(&ready), advance)
            }
            Event::Tick => None,
        }
    }

    /// Does what can be done now for a connection.
    fn advance(
        &mut self,
        id: ConnectionId,
        can_read: bool,
        advance: impl Fn(&mut Served<P::Session>, bool) -> Option<Interest>,
    ) -> Option<Change> {
        let served = self.peers.get_mut(&id)?;
        match advance(served, can_read) {
            Some(interest) => served.connection.set_interest(id, interest),
            None => {
                self.peers.remove(&id);
                Some(Change::Close(id))
            }
        }
    }

    /// Gives a connection up, and drops its socket and streams.
    pub fn hand_over(&mut self, connection: ConnectionId) -> Option<State> {
        let mut served = self.peers.remove(&connection)?;
        hand_over::save::<P>(&mut served.talk)
    }

    /// Takes over a connection.
    pub fn accept(&self, connection: ConnectionId, state: State) -> Result<(), String> {
        hand_over::accept(&self.protocol, connection, state)
    }
}
