//! The limit on open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, pollers, standard streams,
/// granted directories.
const OTHERS: u64 = 64;

/// Raises the soft limit as far as the hard one allows. The soft one is low for
/// the sake of programs that use `select`, which this is not.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // If it cannot be, the old limit stays, and `warn_if_low` says so.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Says so if the limit on connections cannot be reached.
pub(super) fn warn_if_low(max_connections: u32) {
    let needed = u64::from(max_connections) + OTHERS;
    if let Some(allowed) = getrlimit(Resource::Nofile).current
        && allowed < needed
    {
        tracing::warn!(
            allowed,
            needed,
            "the limit on open files (ulimit -n) is lower than --max-connections needs"
        );
    }
}
