//! Sending on the datagram sockets of a service: by which of them, and whether it has
//! room.

use super::address::{Ends, is_for_many, means_one};
use super::answers::Answers;
use super::socket::{Socket, Sockets};
use super::{local, network};
use crate::socket_name::SocketName;
use crate::sync::lock;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use std::net::SocketAddr;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

impl Sockets {
    /// Whether a socket had no room for anybody when it was last tried, so that waiting
    /// for it again is of no use.
    pub(super) fn is_stuck(&self, at: usize) -> bool {
        let socket = self.all.get(at);
        socket.is_some_and(|socket| socket.is_stuck.load(Ordering::Relaxed))
    }

    /// A socket has sent a datagram.
    pub(super) fn has_room(&self, at: usize) {
        if let Some(socket) = self.all.get(at)
            && socket.is_stuck.load(Ordering::Relaxed)
        {
            socket.is_stuck.store(false, Ordering::Relaxed);
        }
    }

    /// Whether it is a socket's own buffer that is full, and not the queue of one peer.
    pub(super) fn check_stuck(&self, at: usize) -> bool {
        let Some(socket) = self.all.get(at) else {
            return false;
        };
        let descriptor = socket.registration.get_ref();
        let mut fds = [PollFd::new(descriptor, PollFlags::OUT)];
        // A Unix socket that is not connected is writable by its own buffer only.
        let ready = rustix::event::poll(&mut fds, Some(&Timespec::default()));
        let is_full = ready == Ok(0);
        if is_full && !socket.is_stuck.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                socket = %socket.name,
                "the send buffer is full of answers that peers have not read; others are dropped"
            );
        }
        is_full
    }

    /// Asks who may be sent what.
    pub(super) fn ways(&self) -> Ways<'_> {
        Ways {
            all: &self.all,
            answers: lock(&self.answers),
        }
    }

    /// Sends datagrams by one socket, as many as it takes. They leave from the same
    /// address. Returns how many it took; an error is that of the first one.
    pub(super) fn send<'a>(
        &self,
        at: usize,
        datagrams: impl ExactSizeIterator<Item = (&'a Ends, &'a [u8])> + Clone,
    ) -> Result<usize, Errno> {
        let Some(socket) = self.all.get(at) else {
            return Err(Errno::BADF);
        };
        let Some((first, data)) = datagrams.clone().next() else {
            return Ok(0);
        };
        let descriptor = socket.registration.get_ref();
        match (&first.peer, &first.local) {
            (SocketName::Ip(peer), SocketName::Ip(local)) => {
                let is_for_all =
                    matches!(&socket.name, SocketName::Ip(name) if name.ip().is_unspecified());
                let from = (is_for_all && !local.ip().is_unspecified()).then(|| local.ip());
                let peer = *peer;
                let outgoing = datagrams.map(|(ends, data)| match ends.peer {
                    SocketName::Ip(peer) => (peer, data),
                    // Not in one run with others.
                    SocketName::Unix(_) => (peer, data),
                });
                network::send(descriptor, from, outgoing)
                    .map_err(|error| Errno::from_raw_os_error(error as i32))
            }
            (SocketName::Unix(peer), _) => local::send(descriptor, peer, data).map(|()| 1),
            (SocketName::Ip(_), SocketName::Unix(_)) => Err(Errno::AFNOSUPPORT),
        }
    }
}

/// Who may be sent datagrams, and by which socket. Nothing is received meanwhile.
pub(super) struct Ways<'a> {
    all: &'a [Socket],
    answers: MutexGuard<'a, Answers>,
}

impl Ways<'_> {
    /// Returns the socket that a datagram may be sent by. `None` if it may not be sent.
    /// `is_granted` says whether somebody who has not written may be written to.
    pub(super) fn find(
        &self,
        ends: &Ends,
        is_granted: impl Fn(SocketAddr) -> bool,
    ) -> Option<usize> {
        if !means_one(&ends.peer) {
            return None;
        }
        let granted = || matches!(ends.peer, SocketName::Ip(peer) if is_granted(peer));
        if let Some(socket) = self.answers.socket_for(ends) {
            let may = !is_for_many(&ends.peer) || granted();
            return may.then_some(socket);
        }
        if !granted() {
            return None;
        }
        self.all
            .iter()
            .position(|socket| match (&socket.name, &ends.local) {
                (SocketName::Ip(name), SocketName::Ip(local)) => {
                    name == local
                        || (name.ip().is_unspecified()
                            && name.port() == local.port()
                            && name.is_ipv4() == local.is_ipv4())
                }
                _ => false,
            })
    }
}
