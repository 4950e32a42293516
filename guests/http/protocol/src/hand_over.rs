//! What a session remembers when its connection goes to another version. A file is named,
//! and opened again there.

use crate::{Entry, Http, Kind, Store, shown};
use serde::{Deserialize, Serialize};
use sockserve_handler::session::{Output, Resume, Step};

/// What a session remembers, as it is handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What the peer has sent and nobody has looked at.
    pub unread: Vec<u8>,
    /// How many bytes of a request's body are still to come, or are in `unread`.
    pub skipped: u64,
    /// The file that is being sent.
    pub body: Option<BodyState>,
}

/// A file that is being sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyState {
    /// Where it is in the store.
    pub path: String,
    /// How many bytes are queued already.
    pub offset: u64,
    /// How many bytes it has, as the peer was told.
    pub length: u64,
    /// When it was last changed, in seconds since 1970.
    pub modified: u64,
    /// Whether the connection ends with it.
    pub closes: bool,
}

impl<S: Store> Resume for Http<S> {
    type State = State;

    fn save(&mut self) -> State {
        State {
            unread: std::mem::take(&mut self.unread),
            skipped: self.skipped,
            body: self.body.take().map(|(_, state)| state),
        }
    }

    /// Goes on with a file only if it is still the same.
    fn restore(&mut self, state: State, output: &mut Output) -> Step {
        self.unread = state.unread;
        self.skipped = state.skipped;
        let Some(body) = state.body else {
            return Step::Continue;
        };
        let is_same = |entry: Entry| {
            let Entry {
                kind,
                length,
                modified,
            } = entry;
            (kind, length, modified) == (Kind::File, body.length, body.modified)
        };
        let file = match self.store.look(&body.path) {
            Ok(entry) if is_same(entry) && body.offset < body.length => {
                self.store.open(&body.path, body.offset).ok()
            }
            _ => None,
        };
        let Some(file) = file else {
            let path = shown(&body.path);
            output.log.push(format!(
                "{} /{path} has changed while it was sent",
                self.peer
            ));
            return Step::Close;
        };
        self.body = Some((file, body));
        Step::Continue
    }
}
