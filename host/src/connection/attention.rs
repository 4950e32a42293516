//! How a connection asks the `evented` dispatch to look at it after a turn.
//!
//! A turn may touch any connection, not only those whose events it was given:
//! a chat broadcasts. Two things need the dispatch then: output that the kernel
//! did not take, and a connection whose resources the guest has all dropped.
//! Looking at every connection after every turn would cost by open connections.

use crate::connection::ConnectionId;
use crate::sync::lock;
use std::sync::Mutex;

/// The connections that ask for attention since the last turn.
#[derive(Default)]
pub(crate) struct Attention(Mutex<Vec<ConnectionId>>);

impl Attention {
    pub(crate) fn ask(&self, id: ConnectionId) {
        lock(&self.0).push(id);
    }

    /// Moves the list into `into`, which is empty.
    pub(crate) fn take(&self, into: &mut Vec<ConnectionId>) {
        let mut asked = lock(&self.0);
        std::mem::swap(&mut *asked, into);
    }
}
