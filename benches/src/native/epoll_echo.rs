//! An echo with one epoll loop and one buffer: about as little as a server can do.

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{MsgFlags, SockFlag, accept4, recv, send, setsockopt, sockopt};
use std::collections::HashMap;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

const BUFFER: usize = 64 << 10;
const EVENTS: usize = 256;

/// A connection, and what the kernel has not taken yet. Then nothing is read.
struct Connection {
    fd: OwnedFd,
    unsent: Vec<u8>,
    /// How much of that was sent since.
    sent: usize,
}

/// Serves at a path, or at any port of loopback.
pub(super) fn serve(path: Option<PathBuf>) -> Result<()> {
    if let Some(path) = path {
        let listener = UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        println!("listening unix://{}", path.display());
        return run(listener.into(), false);
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("listening tcp://{}", listener.local_addr()?);
    run(listener.into(), true)
}

fn run(listener: OwnedFd, is_tcp: bool) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    add(&epoll, &listener)?;
    let mut connections = HashMap::new();
    let mut buffer = vec![0; BUFFER];
    let mut events = vec![EpollEvent::empty(); EVENTS];
    loop {
        let count = epoll.wait(&mut events, EpollTimeout::NONE)?;
        for event in events.iter().take(count) {
            let number = RawFd::try_from(event.data())?;
            if number == listener.as_raw_fd() {
                accept(&epoll, &listener, is_tcp, &mut connections)?;
            } else if let Some(connection) = connections.get_mut(&number)
                && !connection.echo(&epoll, &mut buffer)?
            {
                // Closed, and so out of the epoll descriptor.
                connections.remove(&number);
            }
        }
    }
}

fn add(epoll: &Epoll, fd: &OwnedFd) -> Result<()> {
    let number = u64::try_from(fd.as_raw_fd())?;
    let event = EpollEvent::new(EpollFlags::EPOLLIN, number);
    epoll.add(fd.as_fd(), event).context("epoll_ctl")
}

/// Accepts all connections that wait.
fn accept(
    epoll: &Epoll,
    listener: &OwnedFd,
    is_tcp: bool,
    connections: &mut HashMap<RawFd, Connection>,
) -> Result<()> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    loop {
        let fd = match accept4(listener, flags) {
            Ok(fd) => fd,
            Err(Errno::EAGAIN) => return Ok(()),
            Err(Errno::ECONNABORTED) => continue,
            Err(error) => return Err(error).context("accept4"),
        };
        if is_tcp {
            setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
        }
        add(epoll, &fd)?;
        let connection = Connection {
            fd,
            unsent: Vec::new(),
            sent: 0,
        };
        connections.insert(connection.fd.as_raw_fd(), connection);
    }
}

impl Connection {
    /// Sends what is unsent, and then echoes what is there. Returns `false` at the end.
    fn echo(&mut self, epoll: &Epoll, buffer: &mut [u8]) -> Result<bool> {
        let raw = self.fd.as_raw_fd();
        let was_waiting = self.sent < self.unsent.len();
        if was_waiting {
            let rest = self.unsent.get(self.sent..).unwrap_or_default();
            let Some(sent) = send_some(raw, rest) else {
                return Ok(false);
            };
            self.sent += sent;
            if self.sent < self.unsent.len() {
                return Ok(true);
            }
        }
        let bytes = match recv(raw, buffer, MsgFlags::empty()) {
            Ok(received @ 1..) => buffer.get(..received).unwrap_or_default(),
            Err(Errno::EAGAIN) => &[],
            Ok(0) | Err(_) => return Ok(false),
        };
        let sent = if bytes.is_empty() {
            0
        } else {
            match send_some(raw, bytes) {
                Some(sent) => sent,
                None => return Ok(false),
            }
        };
        self.unsent.clear();
        self.sent = 0;
        self.unsent
            .extend_from_slice(bytes.get(sent..).unwrap_or_default());
        let is_waiting = !self.unsent.is_empty();
        if is_waiting != was_waiting {
            self.watch(
                epoll,
                if is_waiting {
                    EpollFlags::EPOLLOUT
                } else {
                    EpollFlags::EPOLLIN
                },
            )?;
        }
        Ok(true)
    }

    fn watch(&self, epoll: &Epoll, interest: EpollFlags) -> Result<()> {
        let mut event = EpollEvent::new(interest, u64::try_from(self.fd.as_raw_fd())?);
        epoll.modify(&self.fd, &mut event).context("epoll_ctl")
    }
}

/// Returns how much was sent, and `None` if the peer is gone.
fn send_some(fd: RawFd, bytes: &[u8]) -> Option<usize> {
    match send(fd, bytes, MsgFlags::MSG_NOSIGNAL) {
        Ok(sent) => Some(sent),
        Err(Errno::EAGAIN) => Some(0),
        Err(_) => None,
    }
}
