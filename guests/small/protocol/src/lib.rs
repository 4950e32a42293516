//! The small servers of inetd: discard, chargen, time, and the quote of the day; and one
//! that logs what comes (R1, R2).
//!
//! There is no I/O here; the clock is a function that the shell passes in. The components
//! have a way of their own to carry chargen, because it has to read while it writes. They
//! take the pattern from the session, piece by piece.

mod chargen;
pub mod datagrams;
mod options;

use chargen::Pattern;
use serde::{Deserialize, Serialize};
use sockserve_handler::session::{Output, Peer, Protocol, Resume, Session, Step};
use time_protocol::datagrams::seconds_since_1900;

pub use options::{Quote, Service};

/// How many lines of the pattern are queued at once: less than 4 KiB.
const LINES_AT_ONCE: usize = 55;

/// The family with its options set.
#[derive(Clone, Debug)]
pub struct SmallProtocol {
    /// Which of the small servers it is.
    pub service: Service,
    /// What [`Service::Qotd`] answers.
    pub quote: Quote,
    /// Seconds since 1970 in UTC.
    pub clock: fn() -> u64,
}

impl Protocol for SmallProtocol {
    type Session = Small;
    const TAG: &'static str = "small/1";

    fn session(&self, peer: impl FnOnce() -> Result<Peer, String>) -> Result<Small, String> {
        let work = match self.service {
            Service::Discard => Work::Discard,
            Service::Chargen => Work::Chargen(Pattern::default()),
            Service::Time => Work::Answer(seconds_since_1900((self.clock)()).to_vec()),
            Service::Qotd => Work::Answer(self.quote.bytes().to_vec()),
            Service::Log => Work::Log(peer()?),
        };
        Ok(Small {
            service: self.service,
            work,
        })
    }

    /// The service has to be the same as before: a peer has chosen one of them.
    fn check(&self, state: &State) -> Result<(), String> {
        let State { service, place } = state;
        let expected = self.service;
        if *service != expected {
            return Err(format!(
                "state small/1, SERVICE={service}: expected SERVICE={expected}"
            ));
        }
        match Pattern::at(*place) {
            Some(_) => Ok(()),
            None => Err("state small/1: expected a place in the pattern".to_owned()),
        }
    }
}

/// What a session remembers, as it is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which of the small servers it is.
    pub service: Service,
    /// The next line of the pattern of [`Service::Chargen`]; 0 for the others.
    pub place: u8,
}

/// One connection to a small server.
#[derive(Debug)]
pub struct Small {
    service: Service,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Discard,
    Chargen(Pattern),
    /// Writes these bytes, and closes.
    Answer(Vec<u8>),
    /// Logs what this peer sends.
    Log(Peer),
}

/// The most bytes that [`Service::Log`] logs at once.
const LOGGED_AT_ONCE: usize = 1024;

/// Logs what a peer has sent. Each line has the peer's name before it, so that no peer can
/// write a line in another's name.
fn log(peer: &Peer, bytes: &[u8], log: &mut Vec<String>) {
    let text = String::from_utf8_lossy(bytes);
    log.extend(text.lines().map(|line| format!("{peer} wrote: {line}")));
}

impl Session for Small {
    fn open(&mut self, output: &mut Output) -> Step {
        match &self.work {
            Work::Discard | Work::Chargen(_) | Work::Log(_) => Step::Continue,
            Work::Answer(answer) => {
                output.bytes.push(answer);
                Step::Close
            }
        }
    }

    fn read_limit(&self) -> usize {
        match self.work {
            Work::Log(_) => LOGGED_AT_ONCE,
            _ => 64 * 1024,
        }
    }

    fn receive(&mut self, chunk: &[u8], output: &mut Output) -> Step {
        if let Work::Log(peer) = &self.work {
            log(peer, chunk, &mut output.log);
        }
        Step::Continue
    }

    fn end(&mut self, output: &mut Output) {
        if let Work::Log(peer) = &self.work {
            output.log.push(format!("{peer} disconnected"));
        }
    }

    /// The pattern has no end: there is always a further piece. So chargen goes on after
    /// the peer has half-closed, like that of inetd, until a write fails.
    fn add_more(&mut self, output: &mut Output) -> Step {
        if let Work::Chargen(pattern) = &mut self.work {
            for _ in 0..LINES_AT_ONCE {
                output.bytes.push(&pattern.next_line());
            }
        }
        Step::Continue
    }
}

impl Resume for Small {
    type State = State;

    fn save(&mut self) -> State {
        let place = match &self.work {
            Work::Chargen(pattern) => pattern.place(),
            Work::Discard | Work::Answer(_) | Work::Log(_) => 0,
        };
        State {
            service: self.service,
            place,
        }
    }

    /// An answer was queued before the hand-over, and the conversation was closing. If it
    /// was not, the peer has no answer yet.
    fn restore(&mut self, state: State, output: &mut Output) -> Step {
        if let Work::Chargen(pattern) = &mut self.work {
            *pattern = Pattern::at(state.place).unwrap_or_default();
        }
        self.open(output)
    }
}

#[cfg(test)]
mod tests;
