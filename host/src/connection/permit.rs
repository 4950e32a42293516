//! The place that a connection takes among those that may be open.

use tokio::sync::OwnedSemaphorePermit;

/// Gives its place back when it is dropped.
///
/// A connection holds it and does not look into it, so that what admits connections
/// can put into it whatever it counts.
pub(crate) struct Permit {
    /// One of `--max-connections`.
    _of_service: OwnedSemaphorePermit,
}

impl From<OwnedSemaphorePermit> for Permit {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self {
            _of_service: permit,
        }
    }
}
