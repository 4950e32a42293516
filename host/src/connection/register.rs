//! Registers a descriptor with the runtime's poller.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers `descriptor` with the runtime's poller, edge-triggered, for what is waited
/// for. Anything else would wake the thread for nothing: a socket for datagrams is
/// writable again each time a peer has read one.
#[allow(
    unsafe_code,
    reason = "tokio asks for a promise that its types cannot express"
)]
pub(crate) fn register(
    descriptor: Arc<OwnedFd>,
    interest: Interest,
) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: an `OwnedFd` is open for as long as it exists and always names
    // the same descriptor, and the `Arc` in the `AsyncFd` keeps it in existence.
    unsafe { AsyncFd::register_with_interest(descriptor, interest) }.map_err(Into::into)
}
