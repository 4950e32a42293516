//! A connection on the books of a version.

use crate::connection::Connection;
use crate::guest::failure::{Failure, HostPanic};
use crate::version::Version;
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
    is_closing: bool,
}

impl Stay {
    /// Begins with the version's count of open connections raised.
    pub(super) fn new(version: &Arc<Version>) -> Self {
        version.count_open();
        Self {
            version: Arc::clone(version),
            is_counted: false,
            is_closing: false,
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
        // Whoever sees that it is not served any more sees it counted.
        self.begin_closing();
    }

    /// The connection has no handler any more, and is being closed.
    pub(crate) fn begin_closing(&mut self) {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.version.count_closing();
        }
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
        self.version.count_gone(self.is_closing);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::component::builtin;
    use crate::connection::tests::connection;
    use crate::guest::handler::{Handler, HandlerOptions};
    use crate::lifecycle::VersionNumber;
    use crate::version::Origin;
    use crate::{Dispatch, FailureCounts};
    use std::os::unix::net::UnixStream;
    use std::sync::LazyLock;

    /// A handler whose versions have an intake. It is never instantiated.
    pub(crate) static HANDLER: LazyLock<Arc<Handler>> = LazyLock::new(|| {
        let name = "builtin:echo-evented";
        let component = builtin::load(name).unwrap();
        let options = HandlerOptions::new(Dispatch::Poll);
        Arc::new(Handler::new(name, &component, options).unwrap())
    });

    /// One that a version of its own has admitted.
    pub(crate) fn admitted() -> (Admitted, UnixStream) {
        let version = Version::new(
            VersionNumber::FIRST,
            Arc::clone(&HANDLER),
            Origin::Start,
            Arc::default(),
        );
        let (connection, peer) = connection();
        let admitted = version
            .admit(connection)
            .unwrap_or_else(|_| panic!("it serves"));
        (admitted, peer)
    }

    #[test]
    fn a_stay_is_counted_once_however_it_ends() {
        let counts = |end: &dyn Fn(Admitted)| {
            let (admitted, _peer) = admitted();
            let version = Arc::clone(admitted.stay.version());
            assert_eq!(version.open(), 1);
            end(admitted);
            assert_eq!(version.open(), 0);
            let (handled, failures) = (version.handled(), version.failures());
            (handled, failures, version.hand_overs().handed_over)
        };
        let none = FailureCounts::default();
        let ended = |mut admitted: Admitted| admitted.stay.end(&Ok(()));
        assert_eq!(counts(&ended), (1, none, 0));
        let aborted = |mut admitted: Admitted| admitted.stay.end(&Err(Failure::Aborted));
        assert_eq!(
            counts(&aborted),
            (0, FailureCounts { aborted: 1, ..none }, 0)
        );
        let handed_over = |admitted: Admitted| admitted.stay.hand_over();
        assert_eq!(counts(&handed_over), (0, none, 1));
        // As when a task panics.
        assert_eq!(counts(&drop), (0, FailureCounts { panic: 1, ..none }, 0));
    }
}
