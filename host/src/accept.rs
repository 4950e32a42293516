//! Listening and accepting.
//!
//! A permit is taken before each accept and moved into the connection, so that
//! the number of open connections never passes the limit and further peers wait
//! in the kernel's backlog. An accept error is never the end of the service,
//! unless the listener itself is gone.

use crate::service::Phase;
use crate::sockets::poller::register;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The first pause after the process ran out of something.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// The longest; each pause is twice the one before.
const LAST_BACKOFF: Duration = Duration::from_secs(1);

/// An accepted connection that nobody has taken on yet.
pub(crate) struct Incoming {
    pub(crate) socket: OwnedFd,
    pub(crate) peer: SocketAddr,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// What an accept error means for the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptError {
    /// It concerns one peer, who is gone; the next accept may succeed.
    Transient,
    /// The process or the system is out of descriptors or memory; trying again
    /// at once would spin.
    Exhausted,
    /// The listener is unusable.
    Fatal,
}

impl From<Errno> for AcceptError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Self::Exhausted,
            Errno::BADF | Errno::FAULT | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP => {
                Self::Fatal
            }
            // accept(2): errors of the new connection are reported as accept's
            // own and are to be treated like EAGAIN.
            _ => Self::Transient,
        }
    }
}

/// Binds and listens, with SO_REUSEADDR, and with IPV6_V6ONLY on IPv6.
pub(crate) fn bind(address: SocketAddr, backlog: u32) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// The address that a listener got.
pub(crate) fn local_address(listener: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(rustix::net::getsockname(listener)?.try_into()?)
}

/// Accepts until the service drains, and gives each connection to `deliver`.
///
/// `turn`, if given, is waited for before each accept: `sequential` lets the
/// next connection in only when the last one is done.
///
/// At the end the connections that the kernel has already completed are
/// accepted too, as far as there are permits: their peers may have sent
/// something.
pub(crate) async fn run(
    listener: OwnedFd,
    permits: Arc<Semaphore>,
    turn: Option<Arc<Semaphore>>,
    mut phase: watch::Receiver<Phase>,
    deliver: impl Fn(Incoming, Option<OwnedSemaphorePermit>),
) -> io::Result<()> {
    let listener = register(Arc::new(listener))?;
    let accepting = async {
        let mut backoff = FIRST_BACKOFF;
        loop {
            let turn = match &turn {
                Some(turn) => Some(acquire(turn).await?),
                None => None,
            };
            let permit = acquire(&permits).await?;
            let (socket, peer) = loop {
                match accept(&listener).await {
                    Ok(accepted) => break accepted,
                    Err(error) => survive(error, &mut backoff).await?,
                }
            };
            backoff = FIRST_BACKOFF;
            let incoming = Incoming {
                socket,
                peer,
                permit,
            };
            deliver(incoming, turn);
        }
    };
    tokio::select! {
        // A connection that was accepted is always delivered: `accepting` does
        // not wait between the two.
        result = accepting => return result,
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
    }
    let mut waiting = Vec::new();
    while let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
        let Ok((socket, peer)) = accept_now(listener.get_ref()) else {
            break;
        };
        waiting.push(Incoming {
            socket,
            peer,
            permit,
        });
    }
    // Nobody else gets in, though `turn` may keep those in `waiting` for a while.
    drop(listener);
    for incoming in waiting {
        let turn = match &turn {
            Some(turn) => Some(acquire(turn).await?),
            None => None,
        };
        deliver(incoming, turn);
    }
    Ok(())
}

async fn acquire(semaphore: &Arc<Semaphore>) -> io::Result<OwnedSemaphorePermit> {
    Arc::clone(semaphore)
        .acquire_owned()
        .await
        .map_err(io::Error::other)
}

/// Says what is wrong and waits as long as it takes for another try to make
/// sense; returns the error if none does.
async fn survive(error: Errno, backoff: &mut Duration) -> io::Result<()> {
    match AcceptError::from(error) {
        AcceptError::Transient => {
            tracing::debug!(%error, "accept: the peer is gone");
            Ok(())
        }
        AcceptError::Exhausted => {
            // Once an episode.
            if *backoff == FIRST_BACKOFF {
                tracing::warn!(%error, "accept: out of resources, waiting; raise the limit on open files (ulimit -n) or lower --max-connections");
            }
            tokio::time::sleep(*backoff).await;
            *backoff = (*backoff * 2).min(LAST_BACKOFF);
            Ok(())
        }
        AcceptError::Fatal => Err(error.into()),
    }
}

async fn accept(listener: &AsyncFd<Arc<OwnedFd>>) -> Result<(OwnedFd, SocketAddr), Errno> {
    loop {
        let mut ready = listener.readable().await.map_err(|_| Errno::BADF)?;
        match accept_now(listener.get_ref()) {
            Err(Errno::AGAIN) => ready.clear_ready(),
            result => return result,
        }
    }
}

/// Accepts a connection that is there, with TCP_NODELAY on.
fn accept_now(listener: &OwnedFd) -> Result<(OwnedFd, SocketAddr), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (socket, peer) = rustix::net::acceptfrom_with(listener.as_fd(), flags)?;
    let peer = peer
        .and_then(|peer| SocketAddr::try_from(peer).ok())
        .ok_or(Errno::CONNABORTED)?;
    // A handler answers in small pieces, and WASI cannot set this itself. It
    // fails only where the peer is gone already.
    let _ = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
    Ok((socket, peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_what_can_be_done() {
        let check = |errors: &[Errno], expected| {
            for error in errors {
                assert_eq!(AcceptError::from(*error), expected, "{error}");
            }
        };
        check(
            &[
                Errno::CONNABORTED,
                Errno::INTR,
                Errno::PROTO,
                Errno::PERM,
                Errno::NETDOWN,
                Errno::HOSTUNREACH,
                Errno::TIMEDOUT,
            ],
            AcceptError::Transient,
        );
        check(
            &[Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM],
            AcceptError::Exhausted,
        );
        check(
            &[Errno::BADF, Errno::INVAL, Errno::NOTSOCK],
            AcceptError::Fatal,
        );
    }
}
