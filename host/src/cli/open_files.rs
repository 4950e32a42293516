//! The limit on open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard limit. The soft limit is low for programs that
/// use `select`; this program does not.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // On failure the old limit stays. A service that gets fewer permits because of
    // it logs that.
    let _ = setrlimit(Resource::Nofile, raised);
}
