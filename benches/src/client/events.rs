//! Which sockets are ready: one epoll descriptor for all connections of a client.
//!
//! A client that has a core for itself does not sleep while it waits. A server's `send` would
//! otherwise wake the core of a client that sleeps. That is a large part of a round trip, most
//! of all on a virtual machine; a server pays it on loopback only, and the slower it is, the
//! more often: a client that has nothing to do sleeps.

use super::socket::PATIENCE_SECONDS;
use anyhow::{Context as _, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How many events are taken at once.
const EVENTS: usize = 256;

thread_local! {
    static IS_AWAKE: Cell<bool> = const { Cell::new(false) };
    static IDLE: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Whether the clients of this thread stay awake while they wait.
pub(crate) fn stay_awake(awake: bool) {
    IS_AWAKE.set(awake);
}

/// For how long clients of this thread have been awake and had nothing to do.
pub(crate) fn idle() -> Duration {
    IDLE.get()
}

/// An epoll descriptor and its events.
#[derive(Debug)]
pub(crate) struct Events {
    epoll: Epoll,
    buffer: Vec<EpollEvent>,
}

/// What is ready, and on which connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    /// The number that was given with the descriptor.
    pub(crate) number: usize,
    /// Something can be sent.
    pub(crate) to_send: bool,
    /// Something can be received: bytes, the end or an error.
    pub(crate) to_receive: bool,
}

impl Events {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).context("epoll_create1")?,
            buffer: vec![EpollEvent::empty(); EVENTS],
        })
    }

    /// Watches a descriptor, until it is closed.
    pub(crate) fn add(&self, fd: &OwnedFd, number: usize, sending: bool) -> Result<()> {
        let event = EpollEvent::new(interest(sending), u64::try_from(number)?);
        self.epoll.add(fd, event).context("epoll_ctl")
    }

    /// Changes whether it matters that something can be sent.
    pub(crate) fn change(&self, fd: &OwnedFd, number: usize, sending: bool) -> Result<()> {
        let mut event = EpollEvent::new(interest(sending), u64::try_from(number)?);
        self.epoll.modify(fd, &mut event).context("epoll_ctl")
    }

    /// Watches a descriptor no more.
    pub(crate) fn remove(&self, fd: &OwnedFd) -> Result<()> {
        self.epoll.delete(fd).context("epoll_ctl")
    }

    /// Waits until a connection is ready. Who answers nothing in time is broken.
    pub(crate) fn wait(&mut self, ready: &mut Vec<Ready>) -> Result<()> {
        self.wait_at_most(PATIENCE_SECONDS * 1000, ready)?;
        if ready.is_empty() {
            bail!("no answer in {PATIENCE_SECONDS} s");
        }
        Ok(())
    }

    /// Waits until a connection is ready, or some time has passed. Then none is ready.
    pub(crate) fn wait_at_most(&mut self, milliseconds: u16, ready: &mut Vec<Ready>) -> Result<()> {
        let count = if IS_AWAKE.get() {
            self.spin(Duration::from_millis(milliseconds.into()))?
        } else {
            self.look(EpollTimeout::from(milliseconds))?
        };
        ready.clear();
        ready.extend(self.buffer.iter().take(count).map(|event| Ready {
            number: usize::try_from(event.data()).unwrap_or(usize::MAX),
            to_send: event.events().contains(EpollFlags::EPOLLOUT),
            to_receive: event.events().intersects(ENDS),
        }));
        Ok(())
    }

    /// Looks again and again.
    fn spin(&mut self, at_most: Duration) -> Result<usize> {
        let count = self.look(EpollTimeout::ZERO)?;
        if count > 0 {
            return Ok(count);
        }
        let begun = Instant::now();
        loop {
            let count = self.look(EpollTimeout::ZERO)?;
            let waited = begun.elapsed();
            if count > 0 || waited >= at_most {
                IDLE.set(IDLE.get() + waited);
                return Ok(count);
            }
        }
    }

    fn look(&mut self, timeout: EpollTimeout) -> Result<usize> {
        let count = self.epoll.wait(&mut self.buffer, timeout);
        count.context("epoll_wait")
    }
}

/// With any of these something can be received: bytes, the end or an error.
const ENDS: EpollFlags = EpollFlags::EPOLLIN
    .union(EpollFlags::EPOLLHUP)
    .union(EpollFlags::EPOLLERR);

fn interest(sending: bool) -> EpollFlags {
    if sending {
        EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT
    } else {
        EpollFlags::EPOLLIN
    }
}
