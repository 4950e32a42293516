//! A protocol without I/O. A [`Session`] is the guest's
//! side of a protocol on one connection, and writes what it has to say into an
//! [`Output`].
//!
//! There is no I/O here. A shell reads from the peer, gives the bytes to the session, and
//! delivers the output by the contract that the component has. A [`Conversation`] is a session with its output and its [`Phase`]; another
//! version of the component can continue it.

mod conversation;
mod datagrams;
mod hand_over;
mod lines;
mod peer;
mod queue;
#[cfg(feature = "testing")]
pub mod testing;

pub use conversation::{Conversation, Phase};
pub use datagrams::DatagramProtocol;
pub use hand_over::{Protocol, Resume, SavedConversation, SessionState, State};
pub use lines::{Lines, split_ending};
pub use peer::Peer;
pub use queue::Queue;

/// What a session wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Continue with the connection.
    Continue,
    /// Close the connection when all output is written.
    Close,
}

/// What a session has to say, until a shell delivers it.
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
/// the peer's end of file. It reads only while no output is waiting, so a
/// connection never holds more than the output of one call.
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

    /// All output so far is written. A session that has its output in pieces adds
    /// the next piece now. When it adds nothing, there is no further piece.
    fn add_more(&mut self, output: &mut Output) -> Step {
        let _ = output;
        Step::Continue
    }

    /// The peer will send nothing more. The connection is closed when all output
    /// is written.
    fn end(&mut self, output: &mut Output) {
        let _ = output;
    }
}
