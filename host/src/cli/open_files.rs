//! The limit on open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit as far as the hard one allows. The soft one is low for
/// the sake of programs that use `select`, which this is not.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // If it cannot be, the old limit stays, and a service that has fewer
    // permits for that says so.
    let _ = setrlimit(Resource::Nofile, raised);
}
