//! The key-value store: lines that set, get, delete and count values. All connections of
//! an instance have the same values.
//!
//! There is no I/O here. [`Store::save`] and [`Store::restore`] are for the interface
//! `instance-state`: the values pass to the next version. A half-read line is handed over
//! with its connection.

mod command;

use command::Command;
use serde::{Deserialize, Serialize};
use sockserve_handler::session::{
    Lines, Output, Peer, Protocol, Resume, Session, State, Step, split_ending,
};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Names the format of what [`Store::save`] returns.
pub const TAG: &str = "kv/1";

/// The most bytes of a line, without its line ending.
const LINE_LIMIT: usize = 1024;

type Values = BTreeMap<Vec<u8>, Vec<u8>>;

/// The values of an instance, for all its connections. A clone has the same values.
#[derive(Clone, Debug, Default)]
pub struct Store(Rc<RefCell<Values>>);

impl Store {
    /// Does what a line says, and writes the answer.
    fn answer(&self, line: &[u8], output: &mut Output) {
        let mut values = self.0.borrow_mut();
        let queue = &mut output.bytes;
        match Command::parse(line) {
            Ok(Command::Set { key, value }) => {
                values.insert(key.to_vec(), value.to_vec());
                queue.push(b"OK");
            }
            Ok(Command::Get { key }) => {
                queue.push(values.get(key).map_or(b"(none)", Vec::as_slice));
            }
            Ok(Command::Delete { key }) => {
                queue.push(values.remove(key).map_or(b"0", |_| b"1"));
            }
            Ok(Command::Count) => queue.push(values.len().to_string().as_bytes()),
            Err(error) => queue.push(format!("error: {error}").as_bytes()),
        }
        queue.push(b"\r\n");
    }

    /// Returns all values, for another instance to begin with. `None` if they cannot be
    /// encoded, which does not happen.
    pub fn save(&self) -> Option<State> {
        State::encode(TAG, &*self.0.borrow())
    }

    /// Begins with the values that another instance has saved. The error is one line that
    /// says what was expected.
    pub fn restore(&self, state: &State) -> Result<(), String> {
        *self.0.borrow_mut() = state.decode(TAG)?;
        Ok(())
    }
}

impl Protocol for Store {
    type Session = Kv;
    const TAG: &'static str = "kv-connection/1";

    fn session(&self, _: impl FnOnce() -> Result<Peer, String>) -> Result<Kv, String> {
        Ok(Kv {
            store: self.clone(),
            lines: Lines::default(),
            in_long_line: false,
        })
    }
}

/// One connection of the key-value store.
#[derive(Debug)]
pub struct Kv {
    store: Store,
    lines: Lines,
    /// Whether the line that is being read is already known to be too long.
    in_long_line: bool,
}

/// What a connection remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvState {
    /// The beginning of a line that is not complete.
    pub unfinished: Vec<u8>,
    /// Whether there was more of the line before, which makes it too long.
    pub in_long_line: bool,
}

impl Session for Kv {
    fn receive(&mut self, chunk: &[u8], output: &mut Output) -> Step {
        let Self {
            store,
            lines,
            in_long_line,
        } = self;
        // What is longer than the limit comes in pieces, and the last piece has the line
        // ending.
        lines.feed(chunk, |piece| {
            if !piece.ends_with(b"\n") {
                *in_long_line = true;
            } else if std::mem::take(in_long_line) {
                too_long(output);
            } else {
                store.answer(split_ending(piece).0, output);
            }
        });
        Step::Continue
    }

    /// A line without a line ending at end of file is a line too.
    fn end(&mut self, output: &mut Output) {
        let unfinished = self.lines.take();
        if std::mem::take(&mut self.in_long_line) {
            too_long(output);
        } else if !unfinished.is_empty() {
            self.store.answer(&unfinished, output);
        }
    }
}

fn too_long(output: &mut Output) {
    let text = format!("error: a line may have {LINE_LIMIT} bytes\r\n");
    output.bytes.push(text.as_bytes());
}

impl Resume for Kv {
    type State = KvState;

    fn save(&mut self) -> KvState {
        KvState {
            unfinished: self.lines.take(),
            in_long_line: self.in_long_line,
        }
    }

    fn restore(&mut self, state: KvState, output: &mut Output) -> Step {
        self.in_long_line = state.in_long_line;
        self.receive(&state.unfinished, output)
    }
}

#[cfg(test)]
mod tests;
