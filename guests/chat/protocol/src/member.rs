//! A member of the room, and its state for a hand-over.

use crate::lines::Lines;
use crate::queue::Queue;
use serde::{Deserialize, Serialize};
use sockserve_handler::session::{Peer, State};

/// Names the format of [`MemberState`].
const TAG: &str = "chat/1";

/// A member of the room.
#[derive(Debug)]
pub(crate) struct Member {
    /// `HOST:PORT`, or `uidUID:CONNECTION`.
    pub(crate) name: String,
    pub(crate) lines: Lines,
    pub(crate) queue: Queue,
}

/// A member as it is handed over, in the format of postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// `HOST:PORT`, or `uidUID:CONNECTION`.
    name: String,
    /// The beginning of a line that is not complete.
    partial: Vec<u8>,
    /// Whether a piece of that line was sent already.
    cut: bool,
    /// The bytes that are queued for the member.
    queue: Vec<u8>,
    /// What the shell has read from the member and has not put into the room yet.
    pub unsaid: Vec<u8>,
}

impl MemberState {
    /// Encodes it for `hand-over`.
    pub fn encode(&self) -> Option<State> {
        State::encode(TAG, self)
    }

    /// Decodes it. The error is one line that says what was expected.
    pub fn decode(state: &State) -> Result<Self, String> {
        let member: Self = state.decode(TAG)?;
        // All members read the name. The half line has a limit.
        let named = member.name.parse::<Peer>().is_ok();
        if !named || Lines::resume(member.partial.clone(), member.cut).is_none() {
            return Err(format!(
                "state {TAG}: expected HOST:PORT or uidUID:CONNECTION, and half a line"
            ));
        }
        Ok(member)
    }
}

impl From<Member> for MemberState {
    fn from(member: Member) -> Self {
        let (partial, cut) = member.lines.into_parts();
        Self {
            name: member.name,
            partial,
            cut,
            queue: member.queue.front(usize::MAX),
            unsaid: Vec::new(),
        }
    }
}

impl From<MemberState> for Member {
    fn from(state: MemberState) -> Self {
        let mut queue = Queue::default();
        if !state.queue.is_empty() {
            queue.push(state.queue.into());
        }
        Self {
            name: state.name,
            lines: Lines::resume(state.partial, state.cut).unwrap_or_default(),
            queue,
        }
    }
}
