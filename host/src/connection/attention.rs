//! How a connection asks the `evented` dispatch to look at it after a turn.
//!
//! A turn may touch any connection, not only those of its events: a chat sends to all
//! members. The dispatch has to act in two cases: the kernel did not take all output,
//! or the guest has dropped all resources of a connection. Without this list the
//! dispatch would look at every connection after every turn, and a turn would cost more
//! with each open connection.

use crate::connection::ConnectionId;
use crate::sync::lock;
use std::sync::Mutex;

/// The connections that have asked for attention since the last turn.
#[derive(Default)]
pub(crate) struct Attention(Mutex<Vec<ConnectionId>>);

impl Attention {
    /// Adds a connection to the list.
    pub(crate) fn ask(&self, id: ConnectionId) {
        lock(&self.0).push(id);
    }

    /// Moves the list into `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut Vec<ConnectionId>) {
        let mut asked = lock(&self.0);
        std::mem::swap(&mut *asked, into);
    }
}
