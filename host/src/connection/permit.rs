//! A connection's place among those that may be open at once.

use tokio::sync::OwnedSemaphorePermit;

/// A place that a connection takes beside that of `--max-connections`. Gives it back when
/// it is dropped.
pub(crate) trait Place: Send + Sync {}

/// Gives its places back when it is dropped.
///
/// A connection holds its permit and never looks into it. So whatever admits
/// connections may put more counters into it.
pub(crate) struct Permit {
    /// One place of `--max-connections`.
    _of_service: OwnedSemaphorePermit,
    /// One place of those that all services share. `None` if they share none.
    _of_all: Option<OwnedSemaphorePermit>,
    /// One place of the peer's source. `None` if sources are not counted.
    _of_source: Option<Box<dyn Place>>,
}

impl Permit {
    /// Makes a permit that has these places.
    pub(crate) fn new(
        of_service: OwnedSemaphorePermit,
        of_all: Option<OwnedSemaphorePermit>,
        of_source: Option<Box<dyn Place>>,
    ) -> Self {
        Self {
            _of_service: of_service,
            _of_all: of_all,
            _of_source: of_source,
        }
    }
}

impl From<OwnedSemaphorePermit> for Permit {
    fn from(permit: OwnedSemaphorePermit) -> Self {
        Self::new(permit, None, None)
    }
}
