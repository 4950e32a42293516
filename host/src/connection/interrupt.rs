//! Whether a connection is to be handed over, and how its guest learns that.

use super::Connection;
use super::notice::Notice;
use super::session::Session;
use crate::lifecycle::VersionNumber;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

impl Connection {
    /// How the guest of this connection is told that it is to be handed over, until the
    /// next [`renew`](Self::renew).
    pub(crate) fn notice(&self) -> &Arc<Notice> {
        &self.session.notice
    }

    /// Waits until the connection is asked to go to a version that has not refused it.
    /// Then marks the guest as told. That may never happen.
    async fn wait_until_told(&self) {
        let may_go = |to| self.may_go_to(to);
        self.notice().given(may_go).await;
        self.session.told.store(true, Ordering::Relaxed);
    }

    /// Does the same as [`wait_until_told`](Self::wait_until_told) for a wait of the
    /// guest, which must not keep the connection alive. Never returns if the connection
    /// is gone.
    pub(crate) async fn wait_until_told_if_open(connection: Weak<Self>, notice: Arc<Notice>) {
        let may_go = |to| {
            let open = connection.upgrade();
            open.is_some_and(|connection| connection.may_go_to(to))
        };
        notice.given(may_go).await;
        if let Some(connection) = connection.upgrade() {
            connection.session.told.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the guest has been told that it is to hand the connection over.
    pub(crate) fn was_told(&self) -> bool {
        self.session.told.load(Ordering::Relaxed)
    }

    /// Whether the connection may go to the version `to`: it is later than any that the
    /// connection could not go to. False for `None`.
    pub(crate) fn may_go_to(&self, to: Option<VersionNumber>) -> bool {
        to > self.parts.refused_by.load()
    }

    /// Notes that the connection stays where it is, until a version later than `by`
    /// asks. Returns false if that was noted already.
    pub(crate) fn mark_refused(&self, by: VersionNumber) -> bool {
        self.parts.refused_by.raise(by) < Some(by)
    }

    /// Lets the request to hand the connection over interrupt waits for input, or for
    /// room to write, from now on.
    pub(crate) fn set_interrupt(&self) {
        self.session.interrupts.store(true, Ordering::Relaxed);
    }

    /// Waits for `wait`. Returns true if the request to hand the connection over came
    /// first. Each wait that is not ready at once is interrupted, until
    /// [`clear_interrupt`](Self::clear_interrupt) is called.
    pub(crate) async fn unless_told(&self, wait: impl Future<Output = ()>) -> bool {
        if !self.session.interrupts.load(Ordering::Relaxed) {
            wait.await;
            return false;
        }
        tokio::select! {
            biased;
            () = wait => false,
            () = self.wait_until_told() => true,
        }
    }

    /// Called when the guest has seen the interrupt. Later waits are not interrupted.
    pub(crate) fn clear_interrupt(&self) {
        self.session.interrupts.store(false, Ordering::Relaxed);
    }

    /// Gives the connection a new session, so that another instance can serve it. What
    /// was read and written stays as it is. Returns false, and changes nothing, if
    /// anything else still has a reference to the connection, strong or weak.
    pub(crate) fn renew(self: &mut Arc<Self>) -> bool {
        // `get_mut` succeeds only if this is the only reference.
        let Some(connection) = Arc::get_mut(self) else {
            return false;
        };
        connection.session = Session::default();
        // The instance that served it looks at it no longer.
        connection.record().set_attention(None);
        true
    }
}
