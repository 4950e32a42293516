//! A connection on the books of a version.

use crate::guest::failure::{Failure, HostPanic};
use crate::service::version::Version;
use crate::sockets::connection::Connection;
use std::sync::Arc;

/// A connection that a version has admitted, with what counts it there.
pub(crate) struct Admitted {
    // In this order: whoever sees the connection gone from the books finds its
    // permit back.
    pub(crate) connection: Arc<Connection>,
    pub(crate) stay: Stay,
}

/// The stay of one connection on one version: the version counts it as open for as
/// long as this exists.
///
/// Its end is counted once, by [`end`](Self::end) or [`hand_over`](Self::hand_over).
/// A stay that is dropped without either was lost in a panic of the host and is
/// counted as failed by that.
pub(crate) struct Stay {
    version: Arc<Version>,
    is_counted: bool,
}

impl Stay {
    /// Begins with the version's count of open connections raised.
    pub(super) fn new(version: &Arc<Version>) -> Self {
        version.count_open();
        Self {
            version: Arc::clone(version),
            is_counted: false,
        }
    }

    /// The version that counts it.
    pub(crate) fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// Counts how the connection's handler ended. It stays open until this is
    /// dropped.
    pub(crate) fn end(&mut self, outcome: &Result<(), Failure>) {
        self.is_counted = true;
        self.version.count(outcome);
    }

    /// The connection has gone to another version.
    pub(crate) fn hand_over(mut self) {
        self.is_counted = true;
        self.version.count_handed_over();
    }

    /// The connection was not admitted after all.
    pub(super) fn withdraw(mut self) {
        self.is_counted = true;
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if !self.is_counted {
            self.version
                .count(&Err(Failure::Panic(HostPanic::unknown())));
        }
        self.version.count_gone();
    }
}
