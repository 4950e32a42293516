//! A session under way: with what it has still to say, and whether it goes on.
//!
//! This is what a shell carries over a connection, and what moves to another
//! version when the connection is handed over.

use crate::{Output, Resume, Resumed, Session, Step};
use serde::{Deserialize, Serialize};

/// How far a conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// It goes on.
    Open,
    /// The peer will send nothing more; the session may have more to say.
    Ended,
    /// Only what is in the output is still to be written.
    Closing,
}

/// A session, its output, and whether it goes on.
#[derive(Debug)]
pub struct Conversation<S> {
    /// One side of it.
    pub session: S,
    /// What is to be written before more is read.
    pub output: Output,
    phase: Phase,
}

impl<S: Session> Conversation<S> {
    /// With a peer who has just connected.
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

    /// Nothing is left to be said but what is in the output.
    pub fn close(&mut self) {
        self.phase = Phase::Closing;
    }

    /// All output is written. Says whether the session has added some.
    pub fn more(&mut self) -> bool {
        if self.phase == Phase::Closing {
            return false;
        }
        let step = self.session.more(&mut self.output);
        self.follow(step);
        !self.output.bytes.is_empty()
    }

    /// Whether nothing more is to be read, and the connection is to be closed when
    /// all output is written.
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
    /// All that another version needs to go on with it. What is in the log stays.
    pub fn save(&mut self) -> Resumed<S::State> {
        Resumed {
            phase: self.phase,
            output: self.output.bytes.take(),
            session: self.session.save(),
        }
    }

    /// Goes on in a new session with what another has [saved](Self::save).
    pub fn resume(session: S, resumed: Resumed<S::State>) -> Self {
        let mut conversation = Self {
            session,
            output: Output::default(),
            phase: resumed.phase,
        };
        conversation.output.bytes.push(&resumed.output);
        if resumed.phase != Phase::Closing {
            let output = &mut conversation.output;
            let step = conversation.session.restore(resumed.session, output);
            conversation.follow(step);
        }
        conversation
    }
}
