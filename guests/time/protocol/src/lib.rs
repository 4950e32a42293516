//! The time family: daytime, and the time after a request, by line, by event and by
//! terminator.
//!
//! There is no I/O here; the clock is a function that the shell passes in. The tests name
//! the modes by numbers (T1, …), which [`Mode`] explains; T3 and T4 are T2 under the
//! dispatches `sequential` and `threaded`.

mod calendar;
pub mod datagrams;
mod fifo;
mod terminator;

use fifo::{Fifo, Refill, Saved};
use serde::{Deserialize, Serialize};
use sockserve_handler::session::{Output, Peer, Protocol, Resume, Session, Step};
use std::fmt;
use std::str::FromStr;
use terminator::{Matcher, Progress};

pub use calendar::{ctime, imf_fixdate, parse_imf_fixdate};
pub use terminator::Terminator;

/// The most bytes that a session reads at once. For T2 it has to be this number. A small
/// buffer also keeps idle connections small.
const READ_LIMIT: usize = 1024;

/// The option `MODE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// T1: writes the time as soon as a peer connects, closes.
    #[default]
    Daytime,
    /// T2: reads once, logs it, writes the time, closes.
    Request,
    /// T5: stays open; answers every chunk that holds `\r\n`.
    Line,
    /// T6: stays open; answers every chunk.
    Event,
    /// T7: reads up to the terminator, writes the time, closes.
    Terminator,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "daytime" => Ok(Self::Daytime),
            "request" => Ok(Self::Request),
            "line" => Ok(Self::Line),
            "event" => Ok(Self::Event),
            "terminator" => Ok(Self::Terminator),
            _ => Err("daytime, request, line, event or terminator".to_owned()),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Daytime => "daytime",
            Self::Request => "request",
            Self::Line => "line",
            Self::Event => "event",
            Self::Terminator => "terminator",
        })
    }
}

/// The family with its options set.
#[derive(Clone, Debug)]
pub struct TimeProtocol {
    /// What its sessions do.
    pub mode: Mode,
    /// What ends a request, for [`Mode::Terminator`] only.
    pub terminator: Terminator,
    /// Seconds since 1970 in UTC, the only zone a guest has.
    pub clock: fn() -> u64,
}

impl Protocol for TimeProtocol {
    type Session = Time;
    const TAG: &'static str = "time/1";

    fn session(&self, _: impl FnOnce() -> Result<Peer, String>) -> Result<Time, String> {
        Ok(Time {
            clock: self.clock,
            memory: Memory::new(self),
        })
    }

    /// The mode and the terminator have to be the same as before. With others the answers
    /// to a half-read request would be wrong.
    fn check(&self, state: &State) -> Result<(), String> {
        let mode = state.mode();
        if mode != self.mode {
            let expected = self.mode;
            return Err(format!(
                "state time/1, MODE={mode}: expected MODE={expected}"
            ));
        }
        let State::Terminator {
            terminator,
            progress,
            ..
        } = state
        else {
            return Ok(());
        };
        let expected = &self.terminator;
        if terminator != expected {
            return Err(format!(
                "state time/1, another TERMINATOR: expected TERMINATOR={expected}"
            ));
        }
        match Matcher::resume(expected, *progress) {
            Some(_) => Ok(()),
            None => Err("state time/1: expected a place before the terminator's end".to_owned()),
        }
    }
}

/// What a session remembers, as it is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// This mode remembers nothing.
    Daytime,
    /// This mode remembers nothing: it answers at once what it reads.
    Request,
    /// A line ending may be split between two chunks.
    Line {
        /// Whether the last chunk ended in `\r`.
        torn: bool,
    },
    /// This mode remembers nothing.
    Event,
    /// The search for the terminator, and the output queue.
    Terminator {
        /// What is searched for.
        terminator: Terminator,
        /// How far the search is.
        progress: Progress,
        /// What is still to be written.
        queue: Vec<Saved>,
    },
}

impl State {
    fn mode(&self) -> Mode {
        match self {
            Self::Daytime => Mode::Daytime,
            Self::Request => Mode::Request,
            Self::Line { .. } => Mode::Line,
            Self::Event => Mode::Event,
            Self::Terminator { .. } => Mode::Terminator,
        }
    }
}

/// One connection of the time family.
#[derive(Debug)]
pub struct Time {
    clock: fn() -> u64,
    memory: Memory,
}

/// What the modes remember between chunks.
#[derive(Debug)]
enum Memory {
    Daytime,
    Request,
    Line {
        /// Whether the last chunk ended in `\r`: a line ending may be split between two
        /// chunks.
        torn: bool,
    },
    Event,
    Terminator {
        /// Is handed over with the connection.
        terminator: Terminator,
        matcher: Matcher,
        fifo: Fifo,
    },
}

impl Memory {
    fn new(protocol: &TimeProtocol) -> Self {
        match protocol.mode {
            Mode::Daytime => Self::Daytime,
            Mode::Request => Self::Request,
            Mode::Line => Self::Line { torn: false },
            Mode::Event => Self::Event,
            Mode::Terminator => Self::Terminator {
                terminator: protocol.terminator.clone(),
                matcher: Matcher::new(&protocol.terminator),
                fifo: Fifo::default(),
            },
        }
    }
}

impl Time {
    fn answer(&self) -> Vec<u8> {
        format!("{}\r\n", ctime((self.clock)())).into_bytes()
    }
}

impl Session for Time {
    fn read_limit(&self) -> usize {
        READ_LIMIT
    }

    fn open(&mut self, output: &mut Output) -> Step {
        if !matches!(self.memory, Memory::Daytime) {
            return Step::Continue;
        }
        output.bytes.push(&self.answer());
        Step::Close
    }

    fn receive(&mut self, chunk: &[u8], output: &mut Output) -> Step {
        let answer = self.answer();
        match &mut self.memory {
            Memory::Daytime => return Step::Close,
            Memory::Request => {
                output.log.push(text(chunk));
                output.bytes.push(&answer);
                return Step::Close;
            }
            Memory::Line { torn } => {
                let joined = *torn && chunk.starts_with(b"\n");
                *torn = chunk.ends_with(b"\r");
                if joined || chunk.windows(2).any(|pair| pair == b"\r\n") {
                    output.bytes.push(&answer);
                }
            }
            Memory::Event => output.bytes.push(&answer),
            Memory::Terminator { matcher, fifo, .. } => {
                if matcher.feed(chunk) {
                    fifo.push(answer);
                    fifo.close_when_done();
                }
            }
        }
        Step::Continue
    }

    fn add_more(&mut self, output: &mut Output) -> Step {
        let Memory::Terminator { fifo, .. } = &mut self.memory else {
            return Step::Continue;
        };
        match fifo.refill() {
            Refill::Bytes(piece) => output.bytes.push(piece),
            Refill::Empty => {}
            Refill::Close => return Step::Close,
        }
        Step::Continue
    }

    /// If the peer half-closes before it has sent anything, T2 takes that as an empty
    /// request, and answers it.
    fn end(&mut self, output: &mut Output) {
        if matches!(self.memory, Memory::Request) {
            self.receive(b"", output);
        }
    }
}

impl Resume for Time {
    type State = State;

    fn save(&mut self) -> State {
        match &mut self.memory {
            Memory::Daytime => State::Daytime,
            Memory::Request => State::Request,
            Memory::Line { torn } => State::Line { torn: *torn },
            Memory::Event => State::Event,
            Memory::Terminator {
                terminator,
                matcher,
                fifo,
            } => State::Terminator {
                terminator: terminator.clone(),
                progress: matcher.progress(),
                queue: fifo.save(),
            },
        }
    }

    /// A state of another mode is ignored; [`Protocol::check`] refuses it before.
    fn restore(&mut self, state: State, _: &mut Output) -> Step {
        match (&mut self.memory, state) {
            (Memory::Line { torn }, State::Line { torn: was_torn }) => *torn = was_torn,
            (
                Memory::Terminator {
                    terminator,
                    matcher,
                    fifo,
                },
                State::Terminator {
                    progress, queue, ..
                },
            ) => {
                if let Some(resumed) = Matcher::resume(terminator, progress) {
                    *matcher = resumed;
                }
                *fifo = Fifo::restore(queue);
            }
            _ => {}
        }
        Step::Continue
    }
}

/// A request as one line of the log.
fn text(chunk: &[u8]) -> String {
    String::from_utf8_lossy(chunk).trim_end().to_owned()
}

#[cfg(test)]
mod tests;
