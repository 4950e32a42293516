//! What is handed over with a connection: its format, and what a protocol has to
//! do for it.
//!
//! A state is [`Resumed`] in the format of postcard, whatever the contract, so a
//! connection can change contracts. The tag says what the session's part is.

use crate::{Phase, Session};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A state as the contract has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What the bytes mean.
    pub tag: String,
    /// A value in the format of postcard.
    pub bytes: Vec<u8>,
}

impl State {
    /// A value under a tag. Nothing where a value cannot be encoded, which those
    /// of the guests all can.
    pub fn encode(tag: &str, value: &impl Serialize) -> Option<Self> {
        Some(Self {
            tag: tag.to_owned(),
            bytes: postcard::to_allocvec(value).ok()?,
        })
    }

    /// The value, if it is under this tag. The error is one line that says what was
    /// expected, for instance `state time/1: expected echo/1`.
    pub fn decode<T: DeserializeOwned>(&self, tag: &str) -> Result<T, String> {
        if self.tag != tag {
            // Somebody else's tag may be anything.
            let other: String = self.tag.escape_default().take(TAG_SHOWN).collect();
            return Err(format!("state {other}: expected {tag}"));
        }
        match postcard::take_from_bytes(&self.bytes) {
            Ok((value, [])) => Ok(value),
            _ => Err(format!("state {tag}: expected the format of that tag")),
        }
    }
}

/// How much of an unknown tag goes to the log.
const TAG_SHOWN: usize = 64;

/// All that is needed to go on with a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed<S> {
    /// How far it has come.
    pub phase: Phase,
    /// What was said and is not yet written.
    pub output: Vec<u8>,
    /// What the session remembers.
    pub session: S,
}

/// A session that another version can go on with.
pub trait Resume: Session {
    /// What it remembers, as it is handed over.
    type State: Serialize + DeserializeOwned;

    /// What it remembers, for another to go on with.
    fn save(&mut self) -> Self::State;

    /// Goes on where another stopped. This session is new, and was not
    /// [opened](Session::open).
    fn restore(&mut self, state: Self::State, output: &mut crate::Output) -> crate::Step;
}

/// A protocol with its options set: makes the sessions of a component.
pub trait Protocol {
    /// One connection's side.
    type Session: Resume;

    /// Names the format of the session's state; with a number that changes when
    /// the format does.
    const TAG: &'static str;

    /// A new session. `peer` asks for the address of the peer, where it matters.
    fn session(
        &self,
        peer: impl FnOnce() -> Result<IpAddr, String>,
    ) -> Result<Self::Session, String>;

    /// Whether a session can go on with `state`. The error is one line that says
    /// what was expected.
    fn check(&self, state: &SessionState<Self>) -> Result<(), String> {
        let _ = state;
        Ok(())
    }

    /// What a state says, if a session can go on with it.
    fn decode(&self, state: &State) -> Result<Resumed<SessionState<Self>>, String> {
        let resumed: Resumed<SessionState<Self>> = state.decode(Self::TAG)?;
        self.check(&resumed.session)?;
        Ok(resumed)
    }
}

/// What the sessions of a protocol remember.
pub type SessionState<P> = <<P as Protocol>::Session as Resume>::State;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tag: &str, bytes: &[u8], expected: Result<&Resumed<u8>, &str>) {
        let state = State {
            tag: tag.to_owned(),
            bytes: bytes.to_vec(),
        };
        let decoded = state.decode("echo/1");
        let decoded = decoded.as_ref().map_err(String::as_str);
        assert_eq!(decoded, expected, "{state:?}");
    }

    #[test]
    fn states() {
        let resumed = Resumed {
            phase: Phase::Ended,
            output: b"ab".to_vec(),
            session: 7,
        };
        let state = State::encode("echo/1", &resumed).unwrap();
        // The format is that of states in flight between versions.
        assert_eq!(state.bytes, [1, 2, b'a', b'b', 7]);
        check("echo/1", &state.bytes, Ok(&resumed));
        let unreadable = Err("state echo/1: expected the format of that tag");
        check("echo/1", &[], unreadable);
        check("echo/1", &[1, 2, b'a', b'b'], unreadable);
        check("echo/1", &[1, 2, b'a', b'b', 7, 0], unreadable);
        check("echo/1", &[9, 0, 7], unreadable);
        // A length beyond what is there.
        check("echo/1", &[0, 0xff, 0xff, 0xff, 0xff, 0x0f], unreadable);
        check("time/1", &[], Err("state time/1: expected echo/1"));
        check("", &[], Err("state : expected echo/1"));
        check("a\nb", &[], Err(r"state a\nb: expected echo/1"));
        let long = format!("state {}: expected echo/1", "x".repeat(64));
        check(&"x".repeat(1000), &[], Err(&long));
    }
}
