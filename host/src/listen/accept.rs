//! The loop that accepts connections.
//!
//! When a peer is there, a permit is taken first, then the connection is accepted, and
//! the permit moves into the connection. So the number of open connections never passes
//! the limit, and further peers wait in the kernel's backlog. An accept error ends the
//! service only if the listener itself has become unusable.
//!
//! `admission` says when a permit may be taken, and whether the peer may come in. A peer
//! that may not is delivered to nobody.

use crate::admission::{Admission, Leave};
use crate::connection::Connection;
use crate::connection::peer::Peer;
use crate::connection::register::register;
use crate::connection::roll::Roll;
use crate::lifecycle::{Phase, Quota};
use crate::listen::local::Transport;
use crate::listen::opening::Opened;
use crate::socket_name::UnixName;
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketFlags};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// The first pause after the process ran out of a resource.
const FIRST_BACKOFF: Duration = Duration::from_millis(10);
/// The longest pause. Each pause is twice as long as the one before.
const LAST_BACKOFF: Duration = Duration::from_secs(1);

/// How many transient errors in a row are taken for peers that have gone.
const MAX_TRANSIENT: u32 = 100;

/// What each connection of a service gets, and what it has to wait for.
#[derive(Clone)]
pub(crate) struct Accepting {
    /// The name of the service, for the log.
    pub(crate) service: Arc<str>,
    /// Its open connections.
    pub(crate) roll: Arc<Roll>,
    /// Who may come in.
    pub(crate) admission: Arc<Admission>,
    /// How many connections the service takes in its life.
    pub(crate) quota: Arc<Quota>,
    /// `Some` under `sequential`: its only permit is taken before each accept, and is
    /// free again when the connection's handler is done. So connections are served one
    /// after another. Changes with the dispatch.
    pub(crate) turns: watch::Receiver<Option<Arc<Semaphore>>>,
    /// Whether peers wait in the kernel's backlog for now.
    pub(crate) suspended: watch::Receiver<bool>,
    /// How many connections the kernel holds before they are accepted.
    pub(crate) backlog: u32,
}

/// What an accept error means for the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptError {
    /// The error concerns one peer, who is gone; the next accept may succeed.
    Transient,
    /// The process or the system is out of descriptors or memory. Trying again at once
    /// would keep the thread busy.
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
            // accept(2): it reports errors of the new connection as its own. They are
            // to be treated like EAGAIN.
            _ => Self::Transient,
        }
    }
}

/// Accepts until the service drains, and gives each connection to `deliver`, with its
/// turn under `sequential`.
///
/// When the service drains, connections that the kernel has completed already are still
/// accepted, as permits become free: their peers may have sent something. Connections
/// that are left when the service aborts are reset. Returns then, or when none is left,
/// or with the error of an unusable listener.
///
/// An inherited listener may go on in another process. Its backlog stays as it is, and
/// as many connections are still accepted as the backlog has room for. One that was given to
/// another service is left to that, with all that is in its backlog.
pub(crate) async fn run(
    listener: Opened,
    given_away: &AtomicBool,
    service: Accepting,
    mut phase: watch::Receiver<Phase>,
    deliver: impl Fn(Arc<Connection>, Option<OwnedSemaphorePermit>),
) -> io::Result<()> {
    let Opened {
        socket,
        local,
        is_inherited,
        file,
        ..
    } = listener;
    let transport = local.transport();
    let listener = register(socket, Interest::READABLE)?;
    let mut aborting = phase.clone();
    let accepting = async {
        let mut trouble = Trouble::default();
        loop {
            // A permit is taken only when a peer is there: a listener without peers
            // must not keep permits that another listener needs.
            let mut ready = listener.readable().await?;
            service.resumed().await?;
            let turn = service.turn().await?;
            let leave = service.admission.next().await?;
            if service.quota.is_spent() {
                // The service is about to drain.
                std::future::pending::<()>().await;
            }
            match accept_now(listener.get_ref(), transport) {
                Ok((socket, peer)) => {
                    trouble = Trouble::default();
                    if let Some(connection) = service.connection(socket, peer, leave) {
                        deliver(connection, turn);
                    }
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(error) => {
                    // Meanwhile another listener of the service may have more success.
                    drop((leave, turn));
                    trouble.survive(error).await?;
                }
            }
        }
    };
    tokio::select! {
        // Every connection that was accepted is delivered: `accepting` does not wait
        // between `accept_now` and `deliver`.
        result = accepting => return result,
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
    }
    if given_away.load(Ordering::Relaxed) {
        return Ok(());
    }
    let mut most = u32::MAX;
    if is_inherited {
        most = service.backlog;
    } else {
        // From here on the kernel completes at most one more connection.
        let _ = rustix::net::listen(listener.get_ref(), 0);
    }
    let (waiting, mut arrived) = mpsc::unbounded_channel();
    let last_ones = async {
        // This block owns them, so they end with it: the listener is closed, and then
        // its file removed, as soon as the backlog is empty, though `turn` may delay the
        // delivery of its connections.
        let (_file, listener, waiting) = (file, listener, waiting);
        let mut trouble = Trouble::default();
        for _ in 0..most {
            let leave = service.admission.leave().await?;
            if service.quota.is_spent() {
                break;
            }
            match accept_now(listener.get_ref(), transport) {
                Ok((socket, peer)) => {
                    // The receiver lives as long as this runs.
                    if let Some(connection) = service.connection(socket, peer, leave) {
                        let _ = waiting.send(connection);
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    drop(leave);
                    trouble.survive(error).await?;
                }
            }
        }
        io::Result::Ok(())
    };
    let delivering = async {
        while let Some(connection) = arrived.recv().await {
            deliver(connection, service.turn().await?);
        }
        Ok(())
    };
    tokio::select! {
        biased;
        _ = aborting.wait_for(|phase| *phase == Phase::Aborting) => Ok(()),
        result = async { tokio::try_join!(last_ones, delivering) } => result.map(drop),
    }
}

impl Accepting {
    /// Waits until the service takes connections.
    async fn resumed(&self) -> io::Result<()> {
        if *self.suspended.borrow() {
            let mut suspended = self.suspended.clone();
            let resumed = suspended.wait_for(|suspended| !suspended).await;
            resumed.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Waits until the next connection may be delivered. `None` unless the dispatch is
    /// `sequential`.
    async fn turn(&self) -> io::Result<Option<OwnedSemaphorePermit>> {
        let mut turns = self.turns.clone();
        loop {
            let Some(turn) = turns.borrow_and_update().clone() else {
                return Ok(None);
            };
            tokio::select! {
                taken = acquire(&turn) => return taken.map(Some),
                // Nobody waits any more, or for another turn.
                changed = turns.changed() => changed.map_err(io::Error::other)?,
            }
        }
    }

    /// Makes a connection from an accepted socket. `None` if the peer may not come in.
    fn connection(&self, socket: OwnedFd, peer: Peer, leave: Leave) -> Option<Arc<Connection>> {
        match self.admission.admit(&peer, leave) {
            Ok(permit) => {
                self.quota.take(1);
                let (service, roll) = (&self.service, &self.roll);
                Some(Connection::new(service, socket, peer, permit, roll))
            }
            Err(refusal) => {
                self.admission.refuse(socket, &peer, refusal);
                None
            }
        }
    }
}

/// Waits for a permit.
async fn acquire(semaphore: &Arc<Semaphore>) -> io::Result<OwnedSemaphorePermit> {
    Arc::clone(semaphore)
        .acquire_owned()
        .await
        .map_err(io::Error::other)
}

/// Counts the accepts that have failed since the last one that succeeded.
#[derive(Default)]
struct Trouble {
    count: u32,
    /// The last pause. `None` before the first one.
    backoff: Option<Duration>,
}

impl Trouble {
    /// Waits until another accept makes sense. Returns the error if the listener is
    /// unusable.
    async fn survive(&mut self, error: Errno) -> io::Result<()> {
        self.count = self.count.saturating_add(1);
        let advice = match AcceptError::from(error) {
            AcceptError::Fatal => return Err(error.into()),
            AcceptError::Transient if self.count <= MAX_TRANSIENT => {
                tracing::debug!(%error, "accept: the peer is gone");
                return Ok(());
            }
            AcceptError::Transient => "accept: it fails again and again, waiting",
            AcceptError::Exhausted => {
                "accept: out of resources, waiting; raise the limit on open files (ulimit -n) or \
                 lower --max-connections"
            }
        };
        let backoff = match self.backoff {
            Some(backoff) => (backoff * 2).min(LAST_BACKOFF),
            // One warning until an accept succeeds again.
            None => {
                tracing::warn!(%error, "{advice}");
                FIRST_BACKOFF
            }
        };
        self.backoff = Some(backoff);
        tokio::time::sleep(backoff).await;
        Ok(())
    }
}

/// Accepts a connection that is there. `AGAIN` if none is.
fn accept_now(listener: &OwnedFd, transport: Transport) -> Result<(OwnedFd, Peer), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (socket, address) = rustix::net::acceptfrom_with(listener.as_fd(), flags)?;
    let peer = peer(&socket, transport, address).ok_or(Errno::CONNABORTED)?;
    Ok((socket, peer))
}

/// The peer of a connected socket at this address. `None` if the system has no address of
/// it any more.
pub(super) fn peer(
    socket: &OwnedFd,
    transport: Transport,
    address: Option<SocketAddrAny>,
) -> Option<Peer> {
    if transport == Transport::Unix {
        return Some(Peer::of_unix(socket, UnixName::of_peer(address)));
    }
    SocketAddr::try_from(address?).ok().map(Peer::Ip)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    /// Returns how long each of these errors in a row is waited out.
    async fn pauses(trouble: &mut Trouble, errors: impl IntoIterator<Item = Errno>) -> Vec<u128> {
        let mut pauses = Vec::new();
        for error in errors {
            let begun = Instant::now();
            trouble.survive(error).await.unwrap();
            pauses.push(begun.elapsed().as_millis());
        }
        pauses
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_doubles_up_to_a_second() {
        let mut trouble = Trouble::default();
        let errors = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
        let first = pauses(&mut trouble, errors.into_iter().cycle().take(10)).await;
        assert_eq!(first, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
        // A successful accept ends the row.
        let mut trouble = Trouble::default();
        assert_eq!(pauses(&mut trouble, [Errno::MFILE]).await, [10]);
    }

    #[tokio::test(start_paused = true)]
    async fn peers_that_are_gone_cost_no_pause_unless_there_is_no_end_of_them() {
        let mut trouble = Trouble::default();
        let gone = std::iter::repeat_n(Errno::CONNABORTED, 102);
        let pauses = pauses(&mut trouble, gone).await;
        assert!(pauses.iter().take(100).all(|pause| *pause == 0));
        assert_eq!(pauses[100..], [10, 20]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_is_gone_is_not_waited_for() {
        let error = Trouble::default().survive(Errno::BADF).await.unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::BADF));
    }

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
