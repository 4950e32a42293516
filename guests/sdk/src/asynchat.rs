//! The shape of Python's `asynchat`: input is collected up to a terminator, and output is
//! a queue.
//!
//! It has no I/O, so it is the same under each contract:
//!
//! ```no_run
//! use sockserve_handler::HandOver;
//! use sockserve_handler::asynchat::{AsyncChat, Channel, Chat, Terminator};
//!
//! /// Answers each line with its length.
//! #[derive(Default)]
//! struct Lengths(usize);
//!
//! impl Chat for Lengths {
//!     fn connected(&mut self, channel: &mut Channel<'_>) {
//!         channel.set_terminator(Terminator::Bytes(b"\r\n".to_vec()));
//!     }
//!
//!     fn collect_incoming_data(&mut self, data: &[u8]) {
//!         self.0 += data.len();
//!     }
//!
//!     fn found_terminator(&mut self, channel: &mut Channel<'_>) {
//!         let length = std::mem::take(&mut self.0);
//!         channel.push(format!("{length}\r\n").as_bytes());
//!     }
//! }
//!
//! impl HandOver for Lengths {
//!     type State = usize;
//!     const TAG: &'static str = "lengths/1";
//!
//!     fn save(&self) -> usize {
//!         self.0
//!     }
//!
//!     fn resume(length: usize) -> Self {
//!         Self(length)
//!     }
//! }
//!
//! type Served = AsyncChat<Lengths>;
//! # #[cfg(target_family = "wasm")]
//! sockserve_handler::protocol!(evented, Served, || Ok(Served::default()));
//! # fn main() {}
//! ```
//!
//! Output is pushed; there are no producers, because what a producer would still give could
//! not be handed over.

use crate::HandOver;
use crate::session::{Output, Peer, Protocol, Resume, Session, Step};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// What ends a piece of input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Terminator {
    /// Nothing: input is collected for ever.
    #[default]
    None,
    /// So many bytes. After them it is [`None`](Terminator::None), as in Python, until
    /// another is set; so is 0.
    Count(usize),
    /// These bytes, which are not collected. If there are none, that is
    /// [`None`](Terminator::None).
    Bytes(Vec<u8>),
}

/// A handler in the shape of Python's `asynchat.async_chat`: one value per connection.
pub trait Chat: HandOver + Default {
    /// A peer has connected. Here the first terminator is set.
    fn connected(&mut self, channel: &mut Channel<'_>);

    /// Input has come. It is never empty.
    fn collect_incoming_data(&mut self, data: &[u8]);

    /// The terminator has come.
    fn found_terminator(&mut self, channel: &mut Channel<'_>);

    /// The peer has sent its end of file. The connection closes when all output is sent.
    fn ended(&mut self, channel: &mut Channel<'_>) {
        let _ = channel;
    }
}

/// The connection of a [`Chat`].
#[derive(Debug)]
pub struct Channel<'a> {
    terminator: &'a mut Terminator,
    output: &'a mut Output,
    closes: &'a mut bool,
}

impl Channel<'_> {
    /// Sets what ends the input from here on.
    pub fn set_terminator(&mut self, terminator: Terminator) {
        *self.terminator = terminator;
    }

    /// What ends the input.
    pub fn terminator(&self) -> &Terminator {
        self.terminator
    }

    /// Adds output at the end of the queue.
    pub fn push(&mut self, data: &[u8]) {
        self.output.bytes.push(data);
    }

    /// Closes the connection when all output is sent, and takes no more input.
    pub fn close_when_done(&mut self) {
        *self.closes = true;
    }

    /// Prints a line.
    pub fn log(&mut self, line: impl Into<String>) {
        self.output.log.push(line.into());
    }
}

/// Serves each connection by a [`Chat`].
#[derive(Debug)]
pub struct AsyncChat<C>(PhantomData<C>);

impl<C> Default for AsyncChat<C> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<C: Chat> Protocol for AsyncChat<C> {
    type Session = ChatSession<C>;
    const TAG: &'static str = C::TAG;

    fn session(&self, _: impl FnOnce() -> Result<Peer, String>) -> Result<ChatSession<C>, String> {
        Ok(ChatSession {
            chat: C::default(),
            terminator: Terminator::None,
            unfinished: Vec::new(),
            closes: false,
        })
    }
}

/// One connection of [`AsyncChat`].
#[derive(Debug)]
pub struct ChatSession<C> {
    chat: C,
    terminator: Terminator,
    /// Input that may be the beginning of the terminator.
    unfinished: Vec<u8>,
    closes: bool,
}

/// What a connection of [`AsyncChat`] remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatState<S> {
    /// What ends the input.
    pub terminator: Terminator,
    /// Input that may be the beginning of the terminator.
    pub unfinished: Vec<u8>,
    /// What the handler knows.
    pub chat: S,
}

impl<C: Chat> ChatSession<C> {
    fn call(&mut self, output: &mut Output, method: impl FnOnce(&mut C, &mut Channel<'_>)) {
        let mut channel = Channel {
            terminator: &mut self.terminator,
            output,
            closes: &mut self.closes,
        };
        method(&mut self.chat, &mut channel);
    }

    fn collect(&mut self, data: &[u8]) {
        if !data.is_empty() {
            self.chat.collect_incoming_data(data);
        }
    }

    fn step(&self) -> Step {
        if self.closes {
            Step::Close
        } else {
            Step::Continue
        }
    }
}

impl<C: Chat> Session for ChatSession<C> {
    fn open(&mut self, output: &mut Output) -> Step {
        self.call(output, C::connected);
        self.step()
    }

    fn receive(&mut self, chunk: &[u8], output: &mut Output) -> Step {
        let mut data = std::mem::take(&mut self.unfinished);
        data.extend_from_slice(chunk);
        let mut rest = data.as_slice();
        while !rest.is_empty() && !self.closes {
            let after = match &mut self.terminator {
                Terminator::None | Terminator::Count(0) => {
                    self.collect(rest);
                    break;
                }
                Terminator::Count(count) if *count > rest.len() => {
                    *count -= rest.len();
                    self.collect(rest);
                    break;
                }
                Terminator::Count(count) => {
                    let (data, after) = rest.split_at_checked(*count).unwrap_or((rest, &[]));
                    self.terminator = Terminator::None;
                    self.collect(data);
                    after
                }
                Terminator::Bytes(end) if !end.is_empty() => {
                    let length = end.len();
                    if let Some(place) = rest.windows(length).position(|part| part == end) {
                        let (data, after) = rest.split_at_checked(place).unwrap_or((rest, &[]));
                        self.collect(data);
                        after.get(length..).unwrap_or_default()
                    } else {
                        let kept = beginning(rest, end);
                        let (data, kept) = rest
                            .split_at_checked(rest.len() - kept)
                            .unwrap_or((rest, &[]));
                        self.unfinished = kept.to_vec();
                        self.collect(data);
                        break;
                    }
                }
                // It is empty.
                Terminator::Bytes(_) => {
                    self.collect(rest);
                    break;
                }
            };
            self.call(output, C::found_terminator);
            rest = after;
        }
        self.step()
    }

    fn end(&mut self, output: &mut Output) {
        let unfinished = std::mem::take(&mut self.unfinished);
        self.collect(&unfinished);
        self.call(output, C::ended);
    }
}

/// How many bytes at the end of `data` are the beginning of `end`.
fn beginning(data: &[u8], end: &[u8]) -> usize {
    let longest = end.len().saturating_sub(1).min(data.len());
    (1..=longest)
        .rev()
        .find(|&length| end.get(..length).is_some_and(|part| data.ends_with(part)))
        .unwrap_or(0)
}

impl<C: Chat> Resume for ChatSession<C> {
    type State = ChatState<C::State>;

    fn save(&mut self) -> Self::State {
        ChatState {
            terminator: self.terminator.clone(),
            unfinished: self.unfinished.clone(),
            chat: self.chat.save(),
        }
    }

    fn restore(&mut self, state: Self::State, _: &mut Output) -> Step {
        self.terminator = state.terminator;
        self.unfinished = state.unfinished;
        self.chat = C::resume(state.chat);
        Step::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Conversation, State};

    /// Reads a length line, then so many bytes, and answers these in brackets; closes at
    /// the length 0.
    #[derive(Default)]
    struct Lengths {
        collected: Vec<u8>,
        in_body: bool,
    }

    impl HandOver for Lengths {
        type State = (Vec<u8>, bool);
        const TAG: &'static str = "lengths/1";

        fn save(&self) -> Self::State {
            (self.collected.clone(), self.in_body)
        }

        fn resume((collected, in_body): Self::State) -> Self {
            Self { collected, in_body }
        }
    }

    impl Chat for Lengths {
        fn connected(&mut self, channel: &mut Channel<'_>) {
            channel.set_terminator(Terminator::Bytes(b"\r\n".to_vec()));
        }

        fn collect_incoming_data(&mut self, data: &[u8]) {
            assert!(!data.is_empty());
            self.collected.extend_from_slice(data);
        }

        fn found_terminator(&mut self, channel: &mut Channel<'_>) {
            let collected = std::mem::take(&mut self.collected);
            if self.in_body {
                channel.push(&[b"[", collected.as_slice(), b"]"].concat());
                self.connected(channel);
            } else {
                let length = str::from_utf8(&collected).unwrap().parse().unwrap();
                if length == 0 {
                    channel.close_when_done();
                }
                channel.set_terminator(Terminator::Count(length));
            }
            self.in_body = !self.in_body;
        }

        fn ended(&mut self, channel: &mut Channel<'_>) {
            channel.push(&self.collected);
        }
    }

    fn talk(input: &[u8], size: usize, moves: bool) -> Vec<u8> {
        let protocol = AsyncChat::<Lengths>::default();
        let session = || protocol.session(|| Err(String::new())).unwrap();
        let mut talk = Conversation::open(session());
        for chunk in input.chunks(size) {
            if moves {
                let state = State::encode(Lengths::TAG, &talk.save()).unwrap();
                talk = Conversation::resume(session(), protocol.decode(&state).unwrap());
            }
            if !talk.is_finished() {
                talk.receive(chunk);
            }
        }
        if !talk.is_finished() {
            talk.end();
        }
        talk.output.bytes.take()
    }

    #[test]
    fn input_is_collected_up_to_the_terminator_whatever_the_pieces() {
        for size in 1..=20 {
            for moves in [false, true] {
                let at = format!("pieces of {size}, moves: {moves}");
                let answer = talk(b"3\r\na\r\n5\r\nb\r\r\nc1\r\n", size, moves);
                assert_eq!(answer, b"[a\r\n][b\r\r\nc]", "{at}");
                // Half a terminator at the end is data.
                assert_eq!(talk(b"3\r", size, moves), b"3\r", "{at}");
                // Nothing is taken after `close_when_done`.
                assert_eq!(talk(b"1\r\nx0\r\n1\r\ny", size, moves), b"[x]", "{at}");
            }
        }
    }
}
