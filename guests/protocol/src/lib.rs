//! What the protocols of the guests have in common: a [`Session`] is one
//! connection's side of a protocol, and an [`Output`] takes what it says.
//!
//! There is no I/O in here. A shell (`guests/shell`) reads from the peer, feeds
//! the session, and delivers its output by whatever contract the component has.
//! With the output, and with whether it goes on, a session is a [`Conversation`],
//! which another version of the component can go on with.

mod conversation;
mod hand_over;
mod lines;
mod option;
mod queue;
#[cfg(feature = "testing")]
pub mod testing;

pub use conversation::{Conversation, Phase};
pub use hand_over::{Protocol, Resume, Resumed, SessionState, State};
pub use lines::{Lines, split_ending};
pub use option::{parse_option, unescape};
pub use queue::Queue;

/// What a session wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Go on with the connection.
    Continue,
    /// Close the connection when all output is written.
    Close,
}

/// Where a session leaves what it has to say.
#[derive(Debug, Default)]
pub struct Output {
    /// Bytes for the peer.
    pub bytes: Queue,
    /// Lines for the log, without their line endings.
    pub log: Vec<String>,
}

/// One connection, as a protocol sees it.
///
/// A shell calls [`open`](Session::open) once and first, then
/// [`receive`](Session::receive) for each chunk, and [`end`](Session::end) at
/// the peer's end of file. It reads only while no output is waiting, so what
/// one call puts out is all that a connection ever holds.
pub trait Session {
    /// The largest chunk to read at once.
    fn read_limit(&self) -> usize {
        64 * 1024
    }

    /// The peer is connected.
    fn open(&mut self, output: &mut Output) -> Step {
        let _ = output;
        Step::Continue
    }

    /// The peer has sent a chunk, which is not empty.
    fn receive(&mut self, chunk: &[u8], output: &mut Output) -> Step;

    /// All output so far is written. A session that delivers in pieces adds the
    /// next one, until it adds nothing.
    fn more(&mut self, output: &mut Output) -> Step {
        let _ = output;
        Step::Continue
    }

    /// The peer will send nothing more. The connection is closed when all output
    /// is written.
    fn end(&mut self, output: &mut Output) {
        let _ = output;
    }
}
