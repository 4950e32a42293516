//! A descriptor in the runtime's poller: how it gets there, and how bytes are moved without
//! asking the kernel more often than needed.

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

/// Calls `transfer`, which moves bytes once, if the poller has said that the descriptor is
/// ready for it. Otherwise, and if the kernel moves nothing, that is `WouldBlock`.
///
/// `is_last` gets the number of bytes that were moved. If it says that no more can be moved
/// now, the next call waits without asking the kernel, as with Tokio's own streams.
pub(super) fn transfer_once(
    registration: &AsyncFd<Arc<OwnedFd>>,
    interest: Interest,
    transfer: impl FnOnce() -> io::Result<usize>,
    is_last: impl FnOnce(usize) -> bool,
) -> io::Result<usize> {
    let mut moved = None;
    let result = registration.try_io(interest, |_| {
        let count = transfer()?;
        if is_last(count) {
            moved = Some(count);
            // This is how Tokio is told that there is no more.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    });
    moved.map_or(result, Ok)
}
