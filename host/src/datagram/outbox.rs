//! Datagrams on their way out.
//!
//! They are sent in their order. What a full buffer does not take is tried again for a
//! while; somebody who has let that while pass is not waited for again, until a datagram
//! has reached them.

use super::MAX_ANSWERS;
use super::address::Ends;
use super::counts::add;
use super::socket::Sockets;
use crate::socket_name::SocketName;
use rustix::io::Errno;
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// The pause before another try, and how many tries there are.
const PAUSE: Duration = Duration::from_millis(1);
const TRIES: u32 = 100;

/// How many peers that do not read are remembered.
const MAX_SLOW: usize = 1024;

/// A datagram that may be sent.
struct Outgoing {
    ends: Ends,
    data: Vec<u8>,
    /// The socket that sends it.
    socket: usize,
}

/// The datagrams that one guest has to send.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Outgoing>,
    /// The pause before the first one is tried again. `None` if none is needed.
    pause: Option<Pin<Box<Sleep>>>,
    /// How often the first one was tried.
    tries: u32,
    /// Peers that did not take a datagram in all tries.
    slow: HashSet<SocketName>,
}

impl Outbox {
    /// Adds a datagram, if it may be sent. Counts it as refused otherwise.
    pub(crate) fn push(
        &mut self,
        sockets: &Sockets,
        ends: Ends,
        data: Vec<u8>,
        is_granted: impl Fn(SocketAddr) -> bool,
    ) {
        if self.queue.len() >= MAX_ANSWERS {
            add(&sockets.counts.unsent, 1);
            return;
        }
        match sockets.way(&ends, is_granted) {
            Some(socket) => self.queue.push_back(Outgoing { ends, data, socket }),
            None => {
                tracing::debug!(peer = %ends.peer, local = %ends.local, "not sent: a datagram for somebody who has not written");
                add(&sockets.counts.refused, 1);
            }
        }
    }

    /// Whether everything is sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Sends everything. Is ready when nothing is left.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, sockets: &Sockets) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let Some(first) = self.queue.front() else {
                return Poll::Ready(());
            };
            let run: Vec<_> = self
                .queue
                .iter()
                .take_while(|it| it.socket == first.socket && it.ends.local == first.ends.local)
                .map(|it| (&it.ends, &*it.data))
                .collect();
            match sockets.send(first.socket, &run) {
                Ok(count) => self.sent(sockets, count),
                Err(Errno::AGAIN | Errno::NOBUFS) if self.may_wait() => {
                    self.tries += 1;
                    self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
                }
                // The kernel reports an ICMP error of an earlier datagram instead of
                // sending this one.
                Err(Errno::CONNREFUSED) if self.tries == 0 && self.is_to_network() => {
                    self.tries = 1;
                }
                Err(error) => self.give_up(sockets, error),
            }
        }
    }

    /// The first datagrams are sent.
    fn sent(&mut self, sockets: &Sockets, count: usize) {
        self.tries = 0;
        add(&sockets.counts.sent, count);
        for sent in self.queue.drain(..count.min(self.queue.len())) {
            sockets.traffic.add_out(sent.data.len());
            if !self.slow.is_empty() {
                self.slow.remove(&sent.ends.peer);
            }
        }
    }

    /// Whether the first one is to be tried again after a pause.
    fn may_wait(&self) -> bool {
        let peer = self.queue.front().map(|first| &first.ends.peer);
        self.tries < TRIES && peer.is_some_and(|peer| !self.slow.contains(peer))
    }

    /// Whether the first one goes to an Internet address.
    fn is_to_network(&self) -> bool {
        let first = self.queue.front();
        first.is_some_and(|first| matches!(first.ends.peer, SocketName::Ip(_)))
    }

    /// The first one is not sent.
    fn give_up(&mut self, sockets: &Sockets, error: Errno) {
        self.tries = 0;
        add(&sockets.counts.unsent, 1);
        let Some(Outgoing { ends, data, .. }) = self.queue.pop_front() else {
            return;
        };
        tracing::debug!(peer = %ends.peer, bytes = data.len(), %error, "a datagram was not sent");
        if error == Errno::AGAIN {
            if self.slow.len() >= MAX_SLOW {
                self.slow.clear();
            }
            self.slow.insert(ends.peer);
        }
    }
}
