//! How a connection asks the `evented` dispatch to look at it after a turn.
//!
//! A turn may touch any connection, not only those of its events: a chat sends to all
//! members. The dispatch has to act in two cases: the kernel did not take all output,
//! or the guest has dropped all resources of a connection. In a third case nobody takes a
//! turn: the host is to end a connection (`record`). Without this list the
//! dispatch would look at every connection after every turn, and a turn would cost more
//! with each open connection.

use crate::connection::ConnectionId;
use crate::sync::lock;
use std::sync::Mutex;
use tokio::sync::Notify;

/// The connections that have asked for attention since the last turn.
#[derive(Default)]
pub(crate) struct Attention {
    asked: Mutex<Vec<ConnectionId>>,
    woken: Notify,
}

impl Attention {
    /// Adds a connection to the list.
    pub(crate) fn ask(&self, id: ConnectionId) {
        lock(&self.asked).push(id);
    }

    /// Adds a connection to the list, and wakes the dispatch: this does not come from a
    /// turn.
    pub(crate) fn ask_and_wake(&self, id: ConnectionId) {
        self.ask(id);
        self.woken.notify_one();
    }

    /// Waits until somebody has asked and wants the dispatch to look now. Cancel-safe.
    pub(crate) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Moves the list into `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut Vec<ConnectionId>) {
        let mut asked = lock(&self.asked);
        std::mem::swap(&mut *asked, into);
    }
}
