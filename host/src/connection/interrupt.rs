//! What a connection knows of being handed over to another version.

use super::Connection;
use super::session::Session;
use crate::lifecycle::VersionNumber;
use crate::sync::lock;
use std::future::pending;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, Weak};
use tokio::sync::watch;

impl Connection {
    /// Waits until its version asks its connections to go to one that has not
    /// refused this one; then its guest has been told.
    ///
    /// `asked` is the number of the version to go to, once there is one.
    pub(crate) async fn wait_until_told(&self, mut asked: watch::Receiver<Option<VersionNumber>>) {
        if asked.wait_for(|to| self.may_go_to(*to)).await.is_err() {
            // There is nobody left to ask.
            pending::<()>().await;
        }
        self.session.told.store(true, Ordering::Relaxed);
    }

    /// As [`wait_until_told`](Self::wait_until_told), for a guest's wait, which does not keep the
    /// connection. Never done if the connection is gone.
    pub(crate) async fn wait_until_told_if_open(
        connection: Weak<Self>,
        mut asked: watch::Receiver<Option<VersionNumber>>,
    ) {
        let may_go = |to: &Option<VersionNumber>| {
            let open = connection.upgrade();
            open.is_some_and(|connection| connection.may_go_to(*to))
        };
        if asked.wait_for(may_go).await.is_err() {
            // There is nobody left to ask.
            pending::<()>().await;
        }
        if let Some(connection) = connection.upgrade() {
            connection.session.told.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the guest has been told that it is to hand the connection over.
    pub(crate) fn was_told(&self) -> bool {
        self.session.told.load(Ordering::Relaxed)
    }

    /// Whether the version with the number `to` may be asked to take it.
    pub(crate) fn may_go_to(&self, to: Option<VersionNumber>) -> bool {
        to > self.parts.refused_by.load()
    }

    /// It stays where it is, unless a version later than `by` asks. False if that was
    /// so already.
    pub(crate) fn mark_refused(&self, by: VersionNumber) -> bool {
        self.parts.refused_by.raise(by) < Some(by)
    }

    /// From now on the question interrupts a wait for input, or for room to
    /// write.
    pub(crate) fn interrupt_by(&self, asked: watch::Receiver<Option<VersionNumber>>) {
        *self.interrupt() = Some(asked);
    }

    /// Waits for `wait`. True if the question came first, as it does until
    /// [`clear_interrupt`](Self::clear_interrupt) is called.
    pub(crate) async fn unless_told(&self, wait: impl Future<Output = ()>) -> bool {
        let asked = self.interrupt().clone();
        let Some(asked) = asked else {
            wait.await;
            return false;
        };
        tokio::select! {
            biased;
            () = wait => false,
            () = self.wait_until_told(asked) => true,
        }
    }

    /// The guest knows that a wait was interrupted; no other is.
    pub(crate) fn clear_interrupt(&self) {
        *self.interrupt() = None;
    }

    /// Makes it as it was when it was accepted, but for what was read and
    /// written, so that another instance can have it. False if somebody still
    /// has a hold on it.
    pub(crate) fn renew(self: &mut Arc<Self>) -> bool {
        // Nobody else can touch it, and the compiler says so.
        let Some(connection) = Arc::get_mut(self) else {
            return false;
        };
        connection.session = Session::default();
        true
    }

    fn interrupt(&self) -> MutexGuard<'_, Option<watch::Receiver<Option<VersionNumber>>>> {
        lock(&self.session.interrupt)
    }
}
