//! inetd's small servers: discard (RFC 863), chargen (RFC 864), qotd (RFC 865) and time
//! (RFC 868), over connections and over datagrams.
//!
//! There is no I/O here; the clock is a function that the shell passes in. echo (RFC 862)
//! and daytime (RFC 867) are the families `echo` and `time`.

mod datagrams;
mod options;
mod pattern;

use pattern::Pattern;
use protocol::{Output, Peer, Protocol, Resume, Session, Step};
use serde::{Deserialize, Serialize};

pub use options::{Quote, Service};

/// Seconds from 1900 to 1970: RFC 868 counts from 1900.
const FROM_1900: u64 = 2_208_988_800;

/// The family with its options set.
#[derive(Clone, Debug)]
pub struct SmallProtocol {
    service: Service,
    quote: Quote,
    /// Seconds since 1970 in UTC.
    clock: fn() -> u64,
    /// Where the next datagram of chargen begins.
    pattern: Pattern,
}

impl SmallProtocol {
    /// Sets the options.
    pub fn new(service: Service, quote: Quote, clock: fn() -> u64) -> Self {
        Self {
            service,
            quote,
            clock,
            pattern: Pattern::default(),
        }
    }

    /// The time as RFC 868 has it: four bytes, which begin again in 2036.
    fn time(&self) -> [u8; 4] {
        let seconds = (self.clock)().wrapping_add(FROM_1900);
        let [_, _, _, _, time @ ..] = seconds.to_be_bytes();
        time
    }
}

impl Protocol for SmallProtocol {
    type Session = Small;
    const TAG: &'static str = "small/1";

    fn session(&self, _: impl FnOnce() -> Result<Peer, String>) -> Result<Small, String> {
        Ok(match self.service {
            Service::Discard => Small::Discard,
            Service::Chargen => Small::Chargen(Pattern::default()),
            Service::Time => Small::Says(self.time().to_vec()),
            Service::Qotd => Small::Says(self.quote.bytes().to_vec()),
        })
    }

    /// A connection that is handed over goes on with the service that it was opened for.
    fn check(&self, state: &State) -> Result<(), String> {
        let fits = match state {
            State::Discard => self.service == Service::Discard,
            State::Chargen { .. } => self.service == Service::Chargen,
            // The answer is written already.
            State::Says => true,
        };
        if fits {
            Ok(())
        } else {
            let service = self.service;
            Err(format!(
                "state small/1 of another service: expected SERVICE={service}"
            ))
        }
    }
}

/// One connection.
#[derive(Debug)]
pub enum Small {
    /// Drops what it reads.
    Discard,
    /// Writes the pattern, as long as the peer takes it. It does not read while it
    /// writes; inetd's does not either.
    Chargen(Pattern),
    /// Writes this and closes.
    Says(Vec<u8>),
}

/// What a session remembers, as it is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing.
    Discard,
    /// The place in the pattern.
    Chargen {
        /// The line that comes next.
        line: u8,
    },
    /// Nothing: it closes when its output is written.
    Says,
}

impl Session for Small {
    fn open(&mut self, output: &mut Output) -> Step {
        match self {
            Self::Says(text) => {
                output.bytes.push(text);
                Step::Close
            }
            Self::Discard | Self::Chargen(_) => Step::Continue,
        }
    }

    fn receive(&mut self, _: &[u8], _: &mut Output) -> Step {
        Step::Continue
    }

    fn add_more(&mut self, output: &mut Output) -> Step {
        if let Self::Chargen(pattern) = self {
            for _ in 0..LINES {
                output.bytes.push(&pattern.next_line());
            }
        }
        Step::Continue
    }
}

/// How many lines of the pattern are written at a time: about 4 KiB.
const LINES: usize = 56;

impl Resume for Small {
    type State = State;

    fn save(&mut self) -> State {
        match self {
            Self::Discard => State::Discard,
            Self::Chargen(pattern) => State::Chargen {
                line: pattern.line(),
            },
            Self::Says(_) => State::Says,
        }
    }

    fn restore(&mut self, state: State, _: &mut Output) -> Step {
        match (self, state) {
            (Self::Chargen(pattern), State::Chargen { line }) => {
                *pattern = Pattern::at(line);
                Step::Continue
            }
            (Self::Discard, State::Discard) => Step::Continue,
            _ => Step::Close,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::testing::run;
    use protocol::{Conversation, DatagramProtocol};

    /// A second of 2026.
    fn clock() -> u64 {
        1_795_000_000
    }

    fn small(service: &str) -> SmallProtocol {
        SmallProtocol::new(service.parse().unwrap(), Quote::default(), clock)
    }

    #[test]
    fn services_that_say_one_thing() {
        let quote = Quote::default().bytes().to_vec();
        assert!((1..=512).contains(&quote.len()));
        let time = 4_003_988_800_u32.to_be_bytes().to_vec();
        for (service, expected) in [("qotd", quote), ("time", time), ("discard", Vec::new())] {
            let seen = run(&small(service), vec![b"ignored".to_vec()], vec![]).unwrap();
            assert_eq!(seen.written, expected, "{service}");
            let mut small = small(service);
            let answer = small.answer(|| ([127, 0, 0, 1], 1).into(), b"x".to_vec(), &mut vec![]);
            assert_eq!(answer.unwrap_or_default(), expected, "{service}");
        }
    }

    #[test]
    fn chargen_goes_on_as_long_as_it_is_taken() {
        let chargen = small("chargen");
        let session = chargen.session(|| Err("not asked for".to_owned())).unwrap();
        let mut talk = Conversation::open(session);
        talk.end();
        let mut pattern = Pattern::default();
        for round in 0..10 {
            assert!(talk.add_more());
            let expected: Vec<u8> = (0..LINES).flat_map(|_| pattern.next_line()).collect();
            assert_eq!(talk.output.bytes.take(), expected);
            if round == 5 {
                // Another version goes on at the same place.
                let saved = talk.save();
                chargen.check(&saved.session).unwrap();
                small("discard").check(&saved.session).unwrap_err();
                let session = chargen.session(|| Err("not asked for".to_owned())).unwrap();
                talk = Conversation::resume(session, saved);
            }
        }
    }

    #[test]
    fn the_next_datagram_gets_the_next_line() {
        let mut chargen = small("chargen");
        let mut line = || {
            let peer = || ([127, 0, 0, 1], 1).into();
            chargen.answer(peer, Vec::new(), &mut vec![]).unwrap()
        };
        let mut pattern = Pattern::default();
        for _ in 0..200 {
            assert_eq!(line(), pattern.next_line());
        }
    }
}
