//! What is handed over with a connection: its format, and what a protocol has to
//! implement for it.
//!
//! A state is a [`SavedConversation`] in the format of postcard. It is the same under
//! each contract, so a connection can change contracts. The tag names the format of
//! the session's part.

use crate::session::{Peer, Phase, Session};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A state as in the interface `hand-over`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What the bytes mean.
    pub tag: String,
    /// A value in the format of postcard.
    pub bytes: Vec<u8>,
}

impl State {
    /// Encodes a value. `None` if it cannot be encoded, which does not happen for
    /// the values of these guests.
    pub fn encode(tag: &str, value: &impl Serialize) -> Option<Self> {
        Some(Self {
            tag: tag.to_owned(),
            bytes: postcard::to_allocvec(value).ok()?,
        })
    }

    /// Decodes the value, if the state has this tag. The error is one line that says
    /// what was expected, for example `state time/1: expected echo/1`.
    pub fn decode<T: DeserializeOwned>(&self, tag: &str) -> Result<T, String> {
        if self.tag != tag {
            // The tag may come from any component.
            let other: String = self.tag.escape_default().take(TAG_SHOWN).collect();
            return Err(format!("state {other}: expected {tag}"));
        }
        match postcard::take_from_bytes(&self.bytes) {
            Ok((value, [])) => Ok(value),
            _ => Err(format!("state {tag}: expected the format of that tag")),
        }
    }
}

/// How many characters of an unknown tag are logged.
const TAG_SHOWN: usize = 64;

/// All that is needed to continue a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedConversation<S> {
    /// What the conversation still does.
    pub phase: Phase,
    /// Output that is not written yet.
    pub output: Vec<u8>,
    /// What the session remembers.
    pub session: S,
}

/// A session that another version can continue.
pub trait Resume: Session {
    /// What it remembers, as it is handed over.
    type State: Serialize + DeserializeOwned;

    /// Returns what it remembers, for another session to continue with.
    fn save(&mut self) -> Self::State;

    /// Continues where another session stopped. This session is new, and was not
    /// [opened](Session::open).
    fn restore(
        &mut self,
        state: Self::State,
        output: &mut crate::session::Output,
    ) -> crate::session::Step;
}

/// A protocol with its options set: makes the sessions of a component.
pub trait Protocol {
    /// The guest's side of one connection.
    type Session: Resume;

    /// Names the format of the session's state, with a number that changes when the
    /// format changes.
    const TAG: &'static str;

    /// Makes a session. `peer` returns the peer; a session that does not need it does
    /// not call it.
    fn session(&self, peer: impl FnOnce() -> Result<Peer, String>)
    -> Result<Self::Session, String>;

    /// Checks whether a session can continue with `state`. The error is one line
    /// that says what was expected.
    fn check(&self, state: &SessionState<Self>) -> Result<(), String> {
        let _ = state;
        Ok(())
    }

    /// Decodes a state, if a session can continue with it.
    fn decode(&self, state: &State) -> Result<SavedConversation<SessionState<Self>>, String> {
        let saved: SavedConversation<SessionState<Self>> = state.decode(Self::TAG)?;
        self.check(&saved.session)?;
        Ok(saved)
    }
}

/// What the sessions of a protocol remember.
pub type SessionState<P> = <<P as Protocol>::Session as Resume>::State;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tag: &str, bytes: &[u8], expected: Result<&SavedConversation<u8>, &str>) {
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
        let saved = SavedConversation {
            phase: Phase::Ended,
            output: b"ab".to_vec(),
            session: 7,
        };
        let state = State::encode("echo/1", &saved).unwrap();
        // Versions that are built apart exchange states in this format.
        assert_eq!(state.bytes, [1, 2, b'a', b'b', 7]);
        check("echo/1", &state.bytes, Ok(&saved));
        let unreadable = Err("state echo/1: expected the format of that tag");
        check("echo/1", &[], unreadable);
        check("echo/1", &[1, 2, b'a', b'b'], unreadable);
        check("echo/1", &[1, 2, b'a', b'b', 7, 0], unreadable);
        check("echo/1", &[9, 0, 7], unreadable);
        // A length that is more than the bytes that follow.
        check("echo/1", &[0, 0xff, 0xff, 0xff, 0xff, 0x0f], unreadable);
        check("time/1", &[], Err("state time/1: expected echo/1"));
        check("", &[], Err("state : expected echo/1"));
        check("a\nb", &[], Err(r"state a\nb: expected echo/1"));
        let long = format!("state {}: expected echo/1", "x".repeat(64));
        check(&"x".repeat(1000), &[], Err(&long));
    }
}
