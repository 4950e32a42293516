//! A connection as a version counts it.

use crate::connection::Connection;
use crate::guest::failure::{Failure, HostPanic};
use crate::version::Version;
use std::sync::Arc;

/// A connection that a version has admitted, and the token that counts it there.
pub(crate) struct Admitted {
    // In this order: a thread that no longer sees the connection counted finds its
    // permit free.
    pub(crate) connection: Arc<Connection>,
    pub(crate) stay: Stay,
}

/// The stay of one connection on one version. The version counts the connection as open
/// for as long as this exists.
///
/// The end of the stay is counted once, by [`end`](Self::end) or
/// [`hand_over`](Self::hand_over). A stay that is dropped without either was lost in a
/// panic of the host, and is counted as failed by a panic.
pub(crate) struct Stay {
    version: Arc<Version>,
    /// Whether the end of the stay is counted.
    is_counted: bool,
    /// Whether the connection's handler is done.
    is_closing: bool,
    /// How it failed, if it did, on one line. For the access log.
    failure: Option<String>,
}

impl Stay {
    /// Begins a stay: counts the connection as open.
    pub(super) fn new(version: &Arc<Version>) -> Self {
        version.count_open();
        Self {
            version: Arc::clone(version),
            is_counted: false,
            is_closing: false,
            failure: None,
        }
    }

    /// The version that counts it.
    pub(crate) fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// How the connection failed, if it did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Counts how the connection's handler ended. The connection counts as open until
    /// this is dropped.
    pub(crate) fn end(&mut self, outcome: &Result<(), Failure>) {
        self.is_counted = true;
        self.version.count(outcome, 1);
        self.failure = outcome.as_ref().err().map(ToString::to_string);
        // A thread that sees that the connection is no longer served sees its end
        // counted.
        self.begin_closing();
    }

    /// Notes that the connection's handler is done, and that the connection is being
    /// closed.
    pub(crate) fn begin_closing(&mut self) {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.version.count_closing();
        }
    }

    /// Ends the stay: the connection has gone to another version.
    pub(crate) fn hand_over(mut self) {
        self.is_counted = true;
        self.version.count_handed_over();
    }

    /// Ends the stay without a count: the connection was not admitted.
    pub(super) fn withdraw(mut self) {
        self.is_counted = true;
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        if !self.is_counted {
            self.version
                .count(&Err(Failure::Panic(HostPanic::unknown())), 1);
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

    /// A handler whose versions have an intake. No test instantiates it.
    pub(crate) static HANDLER: LazyLock<Arc<Handler>> = LazyLock::new(|| {
        let name = "builtin:echo-evented";
        let component = builtin::load(name).unwrap();
        let options = HandlerOptions::new(Dispatch::Poll);
        Arc::new(Handler::new(name, &component, options).unwrap())
    });

    /// A connection that a new version has admitted, and its peer.
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
        // The same happens when a task panics.
        assert_eq!(counts(&drop), (0, FailureCounts { panic: 1, ..none }, 0));
    }
}
