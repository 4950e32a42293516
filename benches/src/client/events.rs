//! Which sockets are ready: one epoll descriptor for all connections of a client.

use super::socket::PATIENCE_SECONDS;
use anyhow::{Context as _, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::os::fd::OwnedFd;

/// How many events are taken at once.
const EVENTS: usize = 256;

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
        let timeout = EpollTimeout::from(milliseconds);
        let count = self.epoll.wait(&mut self.buffer, timeout);
        let count = count.context("epoll_wait")?;
        ready.clear();
        ready.extend(self.buffer.iter().take(count).map(|event| Ready {
            number: usize::try_from(event.data()).unwrap_or(usize::MAX),
            to_send: event.events().contains(EpollFlags::EPOLLOUT),
            to_receive: event.events().intersects(ENDS),
        }));
        Ok(())
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
