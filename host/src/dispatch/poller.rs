//! Readiness of many connections, level-triggered, as epoll(7) gives it.
//!
//! The runtime's own poller is edge-triggered and tells one waiter a
//! connection. Here one wait has the events of all connections at once, and an
//! interest that lasts is reported as long as it is true, which is what the
//! `evented` contract promises. The epoll descriptor itself waits in the
//! runtime's poller.

use crate::sockets::connection::{Connection, ConnectionId};
use crate::sockets::poller::register;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::unix::AsyncFd;

/// The events of one wait.
const BATCH: usize = 1024;
const NO_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

pub(super) struct Poller {
    epoll: AsyncFd<Arc<OwnedFd>>,
    ready: Vec<(ConnectionId, EventFlags)>,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: register(Arc::new(epoll::create(CreateFlags::CLOEXEC)?))?,
            ready: Vec::with_capacity(BATCH),
        })
    }

    /// Watches `connection` for `flags`, and always for hang-up and error.
    pub(super) fn add(&self, connection: &Connection, flags: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(connection.id());
        Ok(epoll::add(self.epoll.get_ref(), connection, data, flags)?)
    }

    /// Watches for `flags` from now on.
    pub(super) fn modify(&self, connection: &Connection, flags: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(connection.id());
        Ok(epoll::modify(
            self.epoll.get_ref(),
            connection,
            data,
            flags,
        )?)
    }

    /// Watches no longer, not even for hang-up.
    pub(super) fn remove(&self, connection: &Connection) -> io::Result<()> {
        Ok(epoll::delete(self.epoll.get_ref(), connection)?)
    }

    /// Waits until something is ready, and returns it: at most [`BATCH`]
    /// connections.
    ///
    /// Nothing is lost if the wait is given up.
    pub(super) async fn wait(
        &mut self,
    ) -> io::Result<impl Iterator<Item = (ConnectionId, EventFlags)>> {
        loop {
            let mut ready = self.epoll.readable().await?;
            match take(ready.get_inner(), &mut self.ready) {
                Ok(0) => ready.clear_ready(),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.ready.drain(..))
    }
}

/// Moves what is ready now into `ready`, and says how much it is.
fn take(epoll: &OwnedFd, ready: &mut Vec<(ConnectionId, EventFlags)>) -> Result<usize, Errno> {
    let mut buffer = [const { MaybeUninit::<Event>::uninit() }; BATCH];
    let (events, _) = epoll::wait(epoll, &mut buffer[..], Some(&NO_WAIT))?;
    ready.extend(events.iter().map(|event| (event.data.u64(), event.flags)));
    Ok(events.len())
}
