//! How the guest of one connection learns that it is to hand the connection over.

use crate::lifecycle::{AtomicVersionNumber, VersionNumber};
use std::pin::pin;
use tokio::sync::Notify;

/// The version that a connection is asked to go to. Each connection has a notice of its own,
/// so that some can be told before others, and nobody else is woken.
#[derive(Default)]
pub(crate) struct Notice {
    /// `None` as long as the connection is not asked.
    to: AtomicVersionNumber,
    changed: Notify,
}

impl Notice {
    /// Asks the connection to go to the version `to`, or, with `None`, takes that back.
    pub(crate) fn give(&self, to: Option<VersionNumber>) {
        self.to.store(to);
        self.changed.notify_waiters();
    }

    /// Waits until the connection is asked to go to a version that `may_go` is true for.
    /// Cancel-safe.
    pub(super) async fn given(&self, may_go: impl Fn(Option<VersionNumber>) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            if may_go(self.to.load()) {
                return;
            }
            changed.await;
        }
    }
}
