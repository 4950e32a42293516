//! The time family: daytime (T1), time after a request (T2), by line (T5), by
//! event (T6) and by terminator (T7).
//!
//! No I/O; the clock is a function that the shell passes in. T3 and T4 are T2
//! under a dispatch of the host's choice.

mod calendar;
mod fifo;
mod terminator;

use std::str::FromStr;

use protocol::{Output, Session, Step};

pub use calendar::ctime;
pub use terminator::Terminator;

use fifo::{Fifo, Refill};
use terminator::Matcher;

/// What every server of the family reads at most at once. The texts receive 1024
/// bytes for T2; the others say nothing, and a small buffer is what keeps many
/// idle connections light.
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
    /// T7: collects to the terminator, writes the time, closes.
    Terminator,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Mode, String> {
        match text {
            "daytime" => Ok(Mode::Daytime),
            "request" => Ok(Mode::Request),
            "line" => Ok(Mode::Line),
            "event" => Ok(Mode::Event),
            "terminator" => Ok(Mode::Terminator),
            _ => Err("daytime, request, line, event or terminator".to_owned()),
        }
    }
}

/// One connection of the time family.
#[derive(Debug)]
pub struct Time {
    /// Seconds since 1970 in UTC, the only zone a guest has.
    clock: fn() -> u64,
    state: State,
}

/// What the modes remember between chunks.
#[derive(Debug)]
enum State {
    Daytime,
    Request,
    /// Whether the last chunk ended in `\r`: a line ending may be torn apart.
    Line {
        torn: bool,
    },
    Event,
    Terminator {
        matcher: Matcher,
        fifo: Fifo,
    },
}

impl Time {
    /// A session in `mode`; `terminator` counts for [`Mode::Terminator`] only.
    pub fn new(mode: Mode, terminator: &Terminator, clock: fn() -> u64) -> Time {
        let state = match mode {
            Mode::Daytime => State::Daytime,
            Mode::Request => State::Request,
            Mode::Line => State::Line { torn: false },
            Mode::Event => State::Event,
            Mode::Terminator => State::Terminator {
                matcher: Matcher::new(terminator),
                fifo: Fifo::default(),
            },
        };
        Time { clock, state }
    }

    fn answer(&self) -> Vec<u8> {
        format!("{}\r\n", ctime((self.clock)())).into_bytes()
    }
}

impl Session for Time {
    fn read_limit(&self) -> usize {
        READ_LIMIT
    }

    fn open(&mut self, output: &mut Output) -> Step {
        if !matches!(self.state, State::Daytime) {
            return Step::Continue;
        }
        output.bytes.push(&self.answer());
        Step::Close
    }

    fn receive(&mut self, chunk: &[u8], output: &mut Output) -> Step {
        let answer = self.answer();
        match &mut self.state {
            State::Daytime => return Step::Close,
            State::Request => {
                output.log.push(text(chunk));
                output.bytes.push(&answer);
                return Step::Close;
            }
            State::Line { torn } => {
                let joined = *torn && chunk.starts_with(b"\n");
                *torn = chunk.ends_with(b"\r");
                if joined || chunk.windows(2).any(|pair| pair == b"\r\n") {
                    output.bytes.push(&answer);
                }
            }
            State::Event => output.bytes.push(&answer),
            State::Terminator { matcher, fifo } => {
                if matcher.feed(chunk) {
                    fifo.push(answer);
                    fifo.close_when_done();
                }
            }
        }
        Step::Continue
    }

    fn more(&mut self, output: &mut Output) -> Step {
        let State::Terminator { fifo, .. } = &mut self.state else {
            return Step::Continue;
        };
        match fifo.refill() {
            Refill::Bytes(piece) => output.bytes.push(piece),
            Refill::Empty => {}
            Refill::Close => return Step::Close,
        }
        Step::Continue
    }

    /// A peer that half-closes before it has said anything has made T2's `recv`
    /// return nothing, which is answered like anything else.
    fn end(&mut self, output: &mut Output) {
        if matches!(self.state, State::Request) {
            self.receive(b"", output);
        }
    }
}

/// A request as one line of the log.
fn text(chunk: &[u8]) -> String {
    String::from_utf8_lossy(chunk).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "Sat Nov 21 18:35:07 2026\r\n";

    /// Runs a session over chunks and then end of file; gives what it wrote, what
    /// it logged, and whether it closed by itself.
    fn run(mode: Mode, terminator: &str, chunks: &[&[u8]]) -> (String, Vec<String>, bool) {
        let terminator = terminator.parse().unwrap();
        let mut session = Time::new(mode, &terminator, || 1_795_286_107);
        let mut output = Output::default();
        let mut written = Vec::new();
        let mut step = session.open(&mut output);
        let mut chunks = chunks.iter();
        loop {
            while step == Step::Continue {
                written.extend(output.bytes.take());
                step = session.more(&mut output);
                if output.bytes.is_empty() {
                    break;
                }
            }
            if step == Step::Close {
                break;
            }
            let Some(chunk) = chunks.next() else { break };
            step = session.receive(chunk, &mut output);
        }
        if step == Step::Continue {
            session.end(&mut output);
        }
        written.extend(output.bytes.take());
        (
            String::from_utf8(written).unwrap(),
            output.log,
            step == Step::Close,
        )
    }

    #[track_caller]
    fn check(mode: Mode, chunks: &[&[u8]], answers: usize, closed: bool) {
        let (written, _, by_itself) = run(mode, r"\r\n\r\n", chunks);
        assert_eq!(written, ANSWER.repeat(answers), "{mode:?} {chunks:?}");
        assert_eq!(by_itself, closed, "{mode:?} {chunks:?}");
    }

    #[test]
    fn daytime() {
        check(Mode::Daytime, &[], 1, true);
        check(Mode::Daytime, &[b"ignored"], 1, true);
    }

    #[test]
    fn request() {
        check(Mode::Request, &[b"what time is it?", b"and now?"], 1, true);
        check(Mode::Request, &[], 1, false);
        let (_, log, _) = run(Mode::Request, "none", &[b"time please\r\n"]);
        assert_eq!(log, ["time please"]);
    }

    #[test]
    fn line() {
        check(Mode::Line, &[], 0, false);
        check(Mode::Line, &[b"a", b"b\n", b"c\r", b"d"], 0, false);
        check(Mode::Line, &[b"a\r\n"], 1, false);
        check(Mode::Line, &[b"a\r\nb\r\nc"], 1, false);
        check(Mode::Line, &[b"a\r\n", b"b", b"\r\n"], 2, false);
        check(Mode::Line, &[b"a\r", b"\nb\r\n"], 1, false);
        check(Mode::Line, &[b"a\r", b"\n"], 1, false);
        check(Mode::Line, &[b"a\r", b"b", b"\n"], 0, false);
        check(Mode::Line, &[b"\r", b"\r", b"\n", b"\n"], 1, false);
    }

    #[test]
    fn event() {
        check(Mode::Event, &[], 0, false);
        check(Mode::Event, &[b"a", b"b", b"c"], 3, false);
    }

    #[test]
    fn terminator() {
        check(Mode::Terminator, &[b"GET / HTTP/1.0\r\n"], 0, false);
        check(Mode::Terminator, &[b"GET /\r\n\r\n"], 1, true);
        check(Mode::Terminator, &[b"a\r\n", b"\r\nrest", b"more"], 1, true);
        check(Mode::Terminator, &[b"a\r\n\r", b"\r\n\r\n"], 1, true);
        let (written, _, _) = run(Mode::Terminator, "count:5", &[b"123", b"4"]);
        assert_eq!(written, "");
        let (written, _, closed) = run(Mode::Terminator, "count:5", &[b"123", b"45"]);
        assert_eq!((written.as_str(), closed), (ANSWER, true));
        let (written, _, closed) = run(Mode::Terminator, "none", &[b"\r\n\r\n".as_slice(); 9]);
        assert_eq!((written.as_str(), closed), ("", false));
    }

    #[test]
    fn modes() {
        #[track_caller]
        fn check(text: &str, expected: Option<Mode>) {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
        assert_eq!(Mode::default(), Mode::Daytime);
        check("daytime", Some(Mode::Daytime));
        check("request", Some(Mode::Request));
        check("line", Some(Mode::Line));
        check("event", Some(Mode::Event));
        check("terminator", Some(Mode::Terminator));
        check("", None);
        check("noon", None);
    }
}
