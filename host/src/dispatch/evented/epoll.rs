//! What becomes ready of many connections, as epoll(7) gives it: edge-triggered, the
//! events of all connections at once.
//!
//! An event is given once, and who takes it has to remember it (`entry`). So the kernel is
//! asked neither when an interest changes nor when a write is partial. The epoll descriptor
//! itself waits in the runtime's poller. It outlives the instances of a version.

use crate::connection::register::register;
use crate::connection::{Connection, ConnectionId};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The most events that one wait returns.
const BATCH: usize = 1024;
/// How long waits may find something ready at once, before the thread's other tasks get
/// their turn.
const MAX_BUSY: Duration = Duration::from_millis(1);
const NO_WAIT: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// An epoll descriptor.
pub(crate) struct Poller {
    epoll: AsyncFd<Arc<OwnedFd>>,
    /// The events of the last wait, kept for its memory.
    ready: Vec<(ConnectionId, EventFlags)>,
    /// When the thread's other tasks last had their turn.
    yielded: Instant,
}

impl Poller {
    /// Makes an epoll descriptor. Called inside a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: register(
                Arc::new(epoll::create(CreateFlags::CLOEXEC)?),
                Interest::READABLE,
            )?,
            ready: Vec::with_capacity(BATCH),
            yielded: Instant::now(),
        })
    }

    /// Watches `connection` for `flags`, and always for hang-up and error. What is ready
    /// already is an event, too.
    pub(super) fn add(&self, connection: &Connection, flags: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(connection.id());
        Ok(epoll::add(self.epoll.get_ref(), connection, data, flags)?)
    }

    /// Changes what is watched to `flags`. What is ready already is an event, too.
    pub(super) fn modify(&self, connection: &Connection, flags: EventFlags) -> io::Result<()> {
        let data = EventData::new_u64(connection.id());
        Ok(epoll::modify(
            self.epoll.get_ref(),
            connection,
            data,
            flags,
        )?)
    }

    /// Stops watching, also for hang-up and error.
    pub(super) fn remove(&self, connection: &Connection) {
        // If it cannot be removed, it is not in the poller.
        let _ = epoll::delete(self.epoll.get_ref(), connection);
    }

    /// Waits until something becomes ready, and returns it: at most [`BATCH`] connections.
    /// Does not wait if there are `others`, which are ready already; then it may return
    /// nothing.
    ///
    /// Cancel-safe: no event is lost if the wait is given up. Something may be ready at
    /// every wait, because peers are fast or because the handler waits for what is
    /// there already. So this gives the thread to other tasks, which accept, close and
    /// end connections: Tokio's wait for the descriptor does not do that by itself.
    pub(super) async fn wait(
        &mut self,
        others: bool,
    ) -> io::Result<impl Iterator<Item = (ConnectionId, EventFlags)>> {
        if self.yielded.elapsed() >= MAX_BUSY {
            tokio::task::yield_now().await;
            self.yielded = Instant::now();
        }
        if others {
            take(self.epoll.get_ref(), &mut self.ready)?;
            return Ok(self.ready.drain(..));
        }
        loop {
            let mut ready = self.epoll.readable().await?;
            let count = take(ready.get_inner(), &mut self.ready)?;
            if count < BATCH {
                // These were all. What comes from here on wakes the runtime's poller again.
                ready.clear_ready();
            }
            if count > 0 {
                return Ok(self.ready.drain(..));
            }
        }
    }
}

/// Moves what is ready now into `ready`, and returns how many events that are.
fn take(epoll: &OwnedFd, ready: &mut Vec<(ConnectionId, EventFlags)>) -> Result<usize, Errno> {
    let mut buffer = [const { MaybeUninit::<Event>::uninit() }; BATCH];
    let (events, _) = loop {
        match epoll::wait(epoll, &mut buffer[..], Some(&NO_WAIT)) {
            Err(Errno::INTR) => {}
            waited => break waited?,
        }
    };
    ready.extend(events.iter().map(|event| (event.data.u64(), event.flags)));
    Ok(events.len())
}
