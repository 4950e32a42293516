//! The echo family: stream echo, one-shot echo, the upper-casing handler, hello, and an
//! echo by line. The tests name the modes by numbers (E1, …), which [`Mode`] explains.
//!
//! There is no I/O here. The components do not use a session for [`Mode::Stream`],
//! but move the bytes in the way of their contract. Its session is for the output that
//! has to be written before that, and for tests.

pub mod datagrams;

use serde::{Deserialize, Serialize};
use sockserve_handler::session::{Lines, Output, Peer, Protocol, Resume, Session, Step};
use std::str::FromStr;

/// Names the format of [`State`].
pub const TAG: &str = "echo/1";

/// The most bytes that [`Mode::Once`] reads.
const ONCE_LIMIT: usize = 100;

/// The most bytes that [`Mode::Upper`] reads.
const UPPER_LIMIT: usize = 1024;

/// The option `MODE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// E2: echoes until the peer half-closes, then closes.
    #[default]
    Stream,
    /// Echoes each line when it is complete, and at end of file the rest.
    Line,
    /// E1: reads once, writes the same bytes, closes.
    Once,
    /// E3: reads once, logs the text, answers in upper case, closes.
    Upper,
    /// E6: greets as soon as a peer connects, closes.
    Hello,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "stream" => Ok(Self::Stream),
            "line" => Ok(Self::Line),
            "once" => Ok(Self::Once),
            "upper" => Ok(Self::Upper),
            "hello" => Ok(Self::Hello),
            _ => Err("stream, line, once, upper or hello".to_owned()),
        }
    }
}

/// The family with its option set.
#[derive(Clone, Copy, Debug)]
pub struct EchoProtocol {
    /// What its sessions do.
    pub mode: Mode,
}

impl Protocol for EchoProtocol {
    type Session = Echo;
    const TAG: &'static str = TAG;

    fn session(&self, peer: impl FnOnce() -> Result<Peer, String>) -> Result<Echo, String> {
        let peer = match self.mode {
            Mode::Upper => Some(peer()?),
            Mode::Stream | Mode::Line | Mode::Once | Mode::Hello => None,
        };
        Ok(Echo {
            mode: self.mode,
            peer,
            lines: Lines::default(),
        })
    }
}

/// What a session remembers. The families `upper` and `faults` have the same state, so
/// they can take over connections from this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The beginning of a line that is not complete.
    pub unfinished: Vec<u8>,
}

/// One connection of the echo family.
#[derive(Debug)]
pub struct Echo {
    mode: Mode,
    /// The peer, for the log. `None` in the modes that log nothing.
    peer: Option<Peer>,
    lines: Lines,
}

impl Echo {
    /// Answers the bytes of one `recv`, as Python's example does. There are none if
    /// the peer has sent nothing.
    fn upper(&self, chunk: &[u8], output: &mut Output) {
        if let Some(peer) = &self.peer {
            upper(peer, chunk, output);
        }
    }
}

/// Adds the answer of [`Mode::Upper`] to a chunk, and its lines for the log.
pub fn upper(peer: &Peer, chunk: &[u8], output: &mut Output) {
    let text = strip(chunk);
    output.log.push(format!("{} wrote:", peer.host()));
    output.log.push(String::from_utf8_lossy(text).into_owned());
    output.bytes.push(&text.to_ascii_uppercase());
}

impl Session for Echo {
    fn read_limit(&self) -> usize {
        match self.mode {
            Mode::Once => ONCE_LIMIT,
            Mode::Upper => UPPER_LIMIT,
            Mode::Stream | Mode::Line | Mode::Hello => 64 * 1024,
        }
    }

    fn open(&mut self, output: &mut Output) -> Step {
        if self.mode != Mode::Hello {
            return Step::Continue;
        }
        output.bytes.push(b"Hello World!\n");
        Step::Close
    }

    fn receive(&mut self, chunk: &[u8], output: &mut Output) -> Step {
        match self.mode {
            Mode::Stream => {
                output.bytes.push(chunk);
                return Step::Continue;
            }
            Mode::Line => {
                self.lines.feed(chunk, |line| output.bytes.push(line));
                return Step::Continue;
            }
            Mode::Once => output.bytes.push(chunk),
            Mode::Upper => self.upper(chunk, output),
            Mode::Hello => {}
        }
        Step::Close
    }

    fn end(&mut self, output: &mut Output) {
        match self.mode {
            Mode::Line => output.bytes.push(&self.lines.take()),
            Mode::Upper => self.upper(b"", output),
            Mode::Stream | Mode::Once | Mode::Hello => {}
        }
    }
}

impl Resume for Echo {
    type State = State;

    fn save(&mut self) -> State {
        State {
            unfinished: self.lines.take(),
        }
    }

    /// Reads the half line that another version had read. `Hello` needs no input and
    /// answers at once.
    fn restore(&mut self, state: State, output: &mut Output) -> Step {
        if self.mode == Mode::Hello || state.unfinished.is_empty() {
            return self.open(output);
        }
        self.receive(&state.unfinished, output)
    }
}

/// Removes white space at both ends, as Python's `bytes.strip` does. Unlike Rust's
/// ASCII white space it includes the vertical tab.
pub fn strip(bytes: &[u8]) -> &[u8] {
    let text = |byte: &u8| !matches!(byte, b' ' | b'\t'..=b'\r');
    let start = bytes.iter().position(text).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(text).map_or(start, |last| last + 1);
    bytes.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
