//! From the events of a turn to the methods of a handler, and from what they did to the
//! changes for the host.

use super::net::{Connection, Connections, Entry, Input, Standing};
use super::{ConnectionId, Handler};
use crate::HandOver;
use crate::ahead::Ahead;
use crate::p2::evented::{Change, Event, Opened, READS, fail_change, interest_change};
use crate::p2::reading;
use crate::saved::SavedConnection;
use crate::session::{Phase, State};
use std::collections::BTreeMap;
use std::io;

/// The handler of an instance and its connections.
pub struct Server<H: Handler> {
    handler: H,
    net: Connections<H::Data>,
    /// Connections that were accepted from another version and are not opened yet: what is
    /// to be done with each.
    accepted: BTreeMap<ConnectionId, Accepted<H::Data>>,
    changes: Vec<Change>,
}

struct Accepted<D> {
    input: Vec<u8>,
    output: Vec<u8>,
    phase: Phase,
    data: D,
}

impl<H: Handler + Default> Default for Server<H> {
    fn default() -> Self {
        Self {
            handler: H::default(),
            net: Connections::default(),
            accepted: BTreeMap::new(),
            changes: Vec::new(),
        }
    }
}

impl<H: Handler> Server<H> {
    /// The handler.
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// The handler, to restore it.
    pub fn handler_mut(&mut self) -> &mut H {
        &mut self.handler
    }

    /// Serves one batch of events.
    pub fn turn(&mut self, events: Vec<Event>) -> Vec<Change> {
        for event in reading::begin_turn(events) {
            match event {
                Event::Opened(opened) => self.open(opened),
                Event::Ready(ready) => self.ready(ready.connection, reading::may_read(&ready)),
                Event::Tick => {
                    if let Err(error) = self.handler.tick(&mut self.net) {
                        // It is of no connection.
                        eprintln!("tick: {error}");
                    }
                }
            }
            self.settle();
        }
        if let Some(time) = self.net.tick_after.take() {
            let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            self.changes.push(Change::TickAfter(time));
        }
        std::mem::take(&mut self.changes)
    }

    fn open(&mut self, opened: Opened) {
        let id = opened.connection;
        let called = match self.accepted.remove(&id) {
            None => {
                let entry = Entry::new(opened, H::Data::default());
                self.net.entries.insert(id, entry);
                self.call(id, H::opened)
            }
            Some(accepted) => {
                let mut entry = Entry::new(opened, accepted.data);
                entry.ahead = Ahead::new(&accepted.input);
                entry.unsent.push(&accepted.output);
                entry.standing = match accepted.phase {
                    Phase::Open => Standing::Open,
                    Phase::Ended => Standing::Ended,
                    Phase::Closing => Standing::Closing,
                };
                let is_open = accepted.phase == Phase::Open;
                let has_input = is_open && !accepted.input.is_empty();
                self.net.entries.insert(id, entry);
                let mut called = self.call(id, H::resumed);
                if called.is_ok() && has_input {
                    called = self.call(id, H::readable);
                }
                called
            }
        };
        if let Err(error) = called {
            self.fail(id, &error);
        }
    }

    fn ready(&mut self, id: ConnectionId, can_read: bool) {
        if let Err(error) = self.advance(id, can_read) {
            self.fail(id, &error);
        }
    }

    /// Does what can be done now for a connection.
    fn advance(&mut self, id: ConnectionId, can_read: bool) -> io::Result<()> {
        let Some(entry) = self.net.entries.get_mut(&id) else {
            return Ok(());
        };
        self.net.touched.insert(id);
        let had_output = !entry.unsent.is_empty();
        entry.send()?;
        if had_output && entry.unsent.is_empty() && entry.standing != Standing::Closing {
            self.call(id, H::writable)?;
        }
        let reads = if can_read { READS } else { 0 };
        for _ in 0..reads {
            let input = match self.net.entries.get_mut(&id) {
                Some(entry) if entry.takes_input() => entry.read()?,
                _ => break,
            };
            if input != Input::Nothing {
                self.call(id, H::readable)?;
            }
            if input != Input::Filled || reading::is_over() {
                break;
            }
            // What this has written makes room for the next read.
            if let Some(entry) = self.net.entries.get_mut(&id) {
                entry.send()?;
            }
        }
        Ok(())
    }

    /// Calls a method of the handler for a connection.
    fn call(
        &mut self,
        id: ConnectionId,
        method: impl FnOnce(&mut H, &mut Connection<'_, H::Data>) -> io::Result<()>,
    ) -> io::Result<()> {
        match self.net.get(id) {
            Some(mut connection) => method(&mut self.handler, &mut connection),
            None => Ok(()),
        }
    }

    /// Sends what the methods have written, and says what to wait for. A method that is
    /// called meanwhile may write to further connections.
    fn settle(&mut self) {
        while let Some(id) = self.net.touched.pop_first() {
            let Some(entry) = self.net.entries.get_mut(&id) else {
                continue;
            };
            if let Err(error) = entry.send() {
                self.fail(id, &error);
                continue;
            }
            if entry.unsent.is_empty() && entry.standing != Standing::Open {
                self.end(id);
                self.changes.push(Change::Close(id));
                continue;
            }
            let wanted = entry.wanted();
            if std::mem::replace(&mut entry.interest, wanted) != wanted {
                self.changes.push(interest_change(id, wanted));
            }
        }
    }

    fn fail(&mut self, id: ConnectionId, error: &io::Error) {
        if let Some(entry) = self.net.entries.get_mut(&id) {
            // What was written before is sent, as far as that is possible without a wait.
            let _ = entry.send();
        }
        if self.end(id) {
            self.changes.push(fail_change(id, &error.to_string()));
        }
    }

    /// Tells the handler that a connection ends, and drops it. Returns whether it was there.
    fn end(&mut self, id: ConnectionId) -> bool {
        if let Some(mut connection) = self.net.get(id) {
            self.handler.closed(&mut connection);
        }
        self.net.touched.remove(&id);
        self.net.entries.remove(&id).is_some()
    }
}

impl<H: Handler> Server<H>
where
    H::Data: HandOver,
{
    /// Gives a connection up, and drops its socket and streams.
    pub fn hand_over(&mut self, id: ConnectionId) -> Option<State> {
        if let Some(mut connection) = self.net.get(id) {
            self.handler.moved(&mut connection);
        }
        self.net.touched.remove(&id);
        let mut entry = self.net.entries.remove(&id)?;
        let saved = SavedConnection {
            phase: match entry.standing {
                Standing::Open => Phase::Open,
                Standing::Ended => Phase::Ended,
                Standing::Closing => Phase::Closing,
            },
            output: entry.unsent.take(),
            input: entry.ahead.bytes.take(),
            state: entry.data.save(),
        };
        saved.encode(H::Data::TAG)
    }

    /// Takes over a connection.
    pub fn accept(&mut self, id: ConnectionId, state: &State) -> Result<(), String> {
        let saved = SavedConnection::decode::<H::Data>(state)?;
        let accepted = Accepted {
            input: saved.input,
            output: saved.output,
            phase: saved.phase,
            data: H::Data::resume(saved.state),
        };
        self.accepted.insert(id, accepted);
        Ok(())
    }
}
