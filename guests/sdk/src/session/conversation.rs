//! A session with the output that is still to be written, and its phase.
//!
//! A shell carries this over a connection. It moves to another version when the
//! connection is handed over.

use crate::session::{Output, Resume, SavedConversation, Session, Step};
use serde::{Deserialize, Serialize};

/// What a conversation still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It reads and writes.
    Open,
    /// The peer will send nothing more. The session may still add output.
    Ended,
    /// It writes the output that is there, and then closes.
    Closing,
}

/// A session, its output, and its phase.
#[derive(Debug)]
pub struct Conversation<S> {
    /// The guest's side of the protocol.
    pub session: S,
    /// What is to be written before more is read.
    pub output: Output,
    phase: Phase,
}

impl<S: Session> Conversation<S> {
    /// Begins a conversation with a peer that has just connected.
    pub fn open(mut session: S) -> Self {
        let mut output = Output::default();
        let step = session.open(&mut output);
        let mut conversation = Self {
            session,
            output,
            phase: Phase::Open,
        };
        conversation.follow(step);
        conversation
    }

    /// The peer has sent a chunk, which is not empty.
    pub fn receive(&mut self, chunk: &[u8]) {
        let step = self.session.receive(chunk, &mut self.output);
        self.follow(step);
    }

    /// The peer will send nothing more.
    pub fn end(&mut self) {
        self.session.end(&mut self.output);
        if self.phase == Phase::Open {
            self.phase = Phase::Ended;
        }
    }

    /// Adds no more output. The connection is closed when all output is written.
    pub fn close(&mut self) {
        self.phase = Phase::Closing;
    }

    /// Lets the session add output, when all output so far is written. Returns
    /// whether it has added some.
    pub fn add_more(&mut self) -> bool {
        if self.phase == Phase::Closing {
            return false;
        }
        let step = self.session.add_more(&mut self.output);
        self.follow(step);
        !self.output.bytes.is_empty()
    }

    /// Whether nothing more is to be read. The connection is then closed when all
    /// output is written.
    pub fn is_finished(&self) -> bool {
        self.phase != Phase::Open
    }

    fn follow(&mut self, step: Step) {
        if step == Step::Close {
            self.close();
        }
    }
}

impl<S: Resume> Conversation<S> {
    /// Returns all that another version needs to continue the conversation. The
    /// lines for the log stay here.
    pub fn save(&mut self) -> SavedConversation<S::State> {
        SavedConversation {
            phase: self.phase,
            output: self.output.bytes.take(),
            session: self.session.save(),
        }
    }

    /// Continues what another version has [saved](Self::save), in a new session.
    pub fn resume(session: S, saved: SavedConversation<S::State>) -> Self {
        let mut conversation = Self {
            session,
            output: Output::default(),
            phase: saved.phase,
        };
        conversation.output.bytes.push(&saved.output);
        if saved.phase != Phase::Closing {
            let output = &mut conversation.output;
            let step = conversation.session.restore(saved.session, output);
            conversation.follow(step);
        }
        conversation
    }
}
