//! A connection's place among those that may be open at once.

use tokio::sync::OwnedSemaphorePermit;

/// Gives its place back when it is dropped.
///
/// A connection holds its permit and never looks into it. So whatever admits
/// connections may put more counters into it.
pub(crate) struct Permit {
    /// One place of `--max-connections`.
    _of_service: OwnedSemaphorePermit,
}

impl From<OwnedSemaphorePermit> for Permit {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _of_service: permit,
        }
    }
}
