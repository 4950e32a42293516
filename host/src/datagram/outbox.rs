//! Datagrams on their way out.
//!
//! They are sent in their order, as far as each peer sees it. What a full buffer does not
//! take is tried again for a while, and meanwhile the others get theirs. Somebody who has
//! let that while pass is not waited for again, until a datagram has reached them.

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

/// A datagram that may be sent.
struct Outgoing {
    ends: Ends,
    data: Vec<u8>,
    /// The socket that sends it.
    socket: usize,
    /// How often it was tried in vain.
    tries: u32,
}

/// The datagrams that one guest has to send.
#[derive(Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Outgoing>,
    /// Those whose peer has no room. They are tried again after a pause, when the queue is
    /// empty.
    waiting: VecDeque<Outgoing>,
    /// The peers of those that are waiting.
    full: HashSet<SocketName>,
    /// The pause before the next try. `None` if none is needed.
    pause: Option<Pin<Box<Sleep>>>,
    /// Whether a datagram was sent since all were added.
    has_sent: bool,
}

impl Outbox {
    /// Adds the datagrams that may be sent. Counts the others as refused. `is_granted`
    /// says whether somebody who has not written may be written to.
    pub(crate) fn extend(
        &mut self,
        sockets: &Sockets,
        datagrams: impl IntoIterator<Item = (Ends, Vec<u8>)>,
        is_granted: impl Fn(SocketAddr) -> bool,
    ) {
        if self.is_empty() {
            self.has_sent = false;
        }
        let ways = sockets.ways();
        for (ends, data) in datagrams {
            if self.queue.len() + self.waiting.len() >= MAX_ANSWERS {
                add(&sockets.counts.unsent, 1);
                continue;
            }
            match ways.find(&ends, &is_granted) {
                Some(socket) => self.queue.push_back(Outgoing {
                    ends,
                    data,
                    socket,
                    tries: 0,
                }),
                None => {
                    tracing::debug!(peer = %ends.peer, local = %ends.local, "not sent: a datagram for somebody who has not written");
                    add(&sockets.counts.refused, 1);
                }
            }
        }
    }

    /// Whether everything is sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.waiting.is_empty()
    }

    /// Sends everything. Is ready when nothing is left.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, sockets: &Sockets) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let Some(first) = self.queue.front() else {
                if self.waiting.is_empty() {
                    return Poll::Ready(());
                }
                std::mem::swap(&mut self.queue, &mut self.waiting);
                self.full.clear();
                self.pause();
                continue;
            };
            if !self.full.is_empty() && self.full.contains(&first.ends.peer) {
                self.set_aside();
                continue;
            }
            let socket = first.socket;
            let run = self.queue.iter().take(self.run(first));
            match sockets.send(socket, run.map(|it| (&it.ends, &*it.data))) {
                Ok(count) => {
                    self.sent(sockets, count);
                    sockets.has_room(socket);
                }
                Err(error) => self.not_sent(sockets, error),
            }
        }
    }

    /// How many datagrams can be sent by one call, from the first one on: those that leave
    /// by one socket and from one address.
    fn run(&self, first: &Outgoing) -> usize {
        if !is_to_network(first) {
            // Over Unix sockets one at a time.
            return 1;
        }
        self.queue
            .iter()
            .take_while(|it| it.socket == first.socket && it.ends.local == first.ends.local)
            .count()
    }

    /// The first datagrams are sent.
    fn sent(&mut self, sockets: &Sockets, count: usize) {
        self.has_sent = true;
        for sent in self.queue.drain(..count.min(self.queue.len())) {
            sockets.traffic.add_out(sent.data.len());
            sockets.slow.forget(&sent.ends.peer);
        }
        add(&sockets.counts.sent, count);
    }

    /// The first one is not sent.
    fn not_sent(&mut self, sockets: &Sockets, error: Errno) {
        let Some(first) = self.queue.front_mut() else {
            return;
        };
        let may_wait = first.tries < TRIES && !sockets.is_stuck(first.socket);
        first.tries += 1;
        match error {
            // The socket's own buffer is full, and so it is for those behind it.
            Errno::AGAIN | Errno::NOBUFS if may_wait && is_to_network(first) => self.pause(),
            Errno::AGAIN | Errno::NOBUFS
                if may_wait && !sockets.slow.contains(&first.ends.peer) =>
            {
                self.full.insert(first.ends.peer.clone());
                self.set_aside();
            }
            // The kernel reports an ICMP error of an earlier datagram instead of sending
            // this one.
            Errno::CONNREFUSED if first.tries == 1 && is_to_network(first) => {}
            error => self.give_up(sockets, error),
        }
    }

    fn pause(&mut self) {
        self.pause = Some(Box::pin(tokio::time::sleep(PAUSE)));
    }

    /// The first one waits for its peer.
    fn set_aside(&mut self) {
        self.waiting.extend(self.queue.pop_front());
    }

    /// The first one is not sent, and will not be.
    fn give_up(&mut self, sockets: &Sockets, error: Errno) {
        add(&sockets.counts.unsent, 1);
        let Some(Outgoing {
            ends, data, socket, ..
        }) = self.queue.pop_front()
        else {
            return;
        };
        tracing::debug!(peer = %ends.peer, bytes = data.len(), %error, "a datagram was not sent");
        if error != Errno::AGAIN {
            return;
        }
        // What peers have not read takes room in our own buffer. When that is full, nobody
        // gets anything, and nobody in particular is to blame.
        if self.has_sent || !sockets.check_stuck(socket) {
            sockets.slow.add(ends.peer);
        }
    }
}

/// Whether a datagram goes to an Internet address.
fn is_to_network(datagram: &Outgoing) -> bool {
    matches!(datagram.ends.peer, SocketName::Ip(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::batch::Batch;
    use crate::datagram::socket::Wanted;
    use crate::datagram::socket::tests::sockets;
    use std::future::poll_fn;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{self, UnixDatagram};
    use tokio::time::Instant;

    fn address(name: &str) -> net::SocketAddr {
        let name = format!("sockserve-outbox-{}-{name}", std::process::id());
        net::SocketAddr::from_abstract_name(name).unwrap()
    }

    fn peer(sockets: &Sockets, name: &str) -> (UnixDatagram, Ends) {
        peer_of(sockets, "server", name)
    }

    /// A peer that has written to the sockets, and the ends of what it wrote.
    fn peer_of(sockets: &Sockets, server: &str, name: &str) -> (UnixDatagram, Ends) {
        let peer = UnixDatagram::bind_addr(&address(name)).unwrap();
        peer.send_to_addr(b"hello", &address(server)).unwrap();
        let mut batch = Batch::new();
        let wanted = Wanted {
            count: 1,
            max_bytes: 10,
        };
        sockets.receive_now(&mut batch, &wanted).unwrap();
        let ends = batch.iter().next().unwrap().ends.clone();
        (peer, ends)
    }

    /// As many datagrams as the peer's queue takes.
    fn fill(peer: &UnixDatagram) {
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        let address = peer.local_addr().unwrap();
        while filler.send_to_addr(b"x", &address).is_ok() {}
    }

    #[tokio::test(start_paused = true)]
    async fn peers_that_do_not_read_are_waited_for_together_and_once() {
        let server = UnixDatagram::bind_addr(&address("server")).unwrap();
        let (sockets, counts) = sockets(server, false);

        let silent: Vec<_> = (0..30)
            .map(|number| peer(&sockets, &format!("silent-{number}")))
            .collect();
        for (silent, _) in &silent {
            fill(silent);
        }
        let (reader, reads) = peer(&sockets, "reader");
        reader.set_nonblocking(true).unwrap();

        let send = async |outbox: &mut Outbox, number: u8| {
            let all = silent.iter().map(|(_, ends)| (ends.clone(), vec![number]));
            outbox.extend(&sockets, all, |_| false);
            let all = [1, 2].map(|part| (reads.clone(), vec![number, part]));
            outbox.extend(&sockets, all, |_| false);
            let begun = Instant::now();
            let mut data = [0; 3];
            // The reader gets its own at the first try.
            let first = poll_fn(|cx| Poll::Ready(outbox.poll_send(cx, &sockets))).await;
            for part in [1, 2] {
                assert_eq!(reader.recv(&mut data).unwrap(), 2);
                assert_eq!(data, [number, part, 0]);
            }
            if first.is_pending() {
                poll_fn(|cx| outbox.poll_send(cx, &sockets)).await;
            }
            assert!(outbox.is_empty());
            begun.elapsed()
        };
        let mut outbox = Outbox::default();
        let took = send(&mut outbox, 1).await;
        assert!(
            took >= PAUSE * TRIES && took < PAUSE * TRIES * 2,
            "{took:?}"
        );
        assert_eq!(counts.counts().unsent, 30);
        // Nobody waits for them again, not even another guest's outbox.
        assert_eq!(send(&mut outbox, 2).await, Duration::ZERO);
        assert_eq!(send(&mut Outbox::default(), 3).await, Duration::ZERO);

        // One of them reads: it is waited for again.
        let (back, ends) = &silent[0];
        let mut data = [0; 3];
        back.recv(&mut data).unwrap();
        outbox.extend(&sockets, [(ends.clone(), vec![4])], |_| false);
        poll_fn(|cx| outbox.poll_send(cx, &sockets)).await;
        fill(back);
        assert!(send(&mut outbox, 5).await >= PAUSE * TRIES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_buffer_full_of_what_nobody_reads_is_waited_for_once() {
        let server = UnixDatagram::bind_addr(&address("server-2")).unwrap();
        let (sockets, counts) = sockets(server, false);
        let silent: Vec<_> = (0..60)
            .map(|number| peer_of(&sockets, "server-2", &format!("hoarder-{number}")))
            .collect();
        let (reader, reads) = peer_of(&sockets, "server-2", "reader-2");
        reader.set_nonblocking(true).unwrap();
        let send = async |outbox: &mut Outbox, ends: &Ends, length: usize| {
            outbox.extend(&sockets, [(ends.clone(), vec![7; length])], |_| false);
            let begun = Instant::now();
            poll_fn(|cx| outbox.poll_send(cx, &sockets)).await;
            begun.elapsed()
        };
        let mut outbox = Outbox::default();
        // Each one's queue takes some of these, and together they are more than the
        // buffer takes.
        for (_, ends) in &silent {
            for _ in 0..8 {
                send(&mut outbox, ends, 60_000).await;
            }
        }
        assert!(sockets.is_stuck(0));
        assert_eq!(send(&mut outbox, &reads, 60_000).await, Duration::ZERO);
        assert!(reader.recv(&mut [0]).is_err());
        assert!(!sockets.slow.contains(&reads.peer));
        let unsent = counts.counts().unsent;
        // When there is room again, everybody gets theirs.
        drop(silent);
        assert_eq!(send(&mut outbox, &reads, 60_000).await, Duration::ZERO);
        assert_eq!(reader.recv(&mut [0; 2]).unwrap(), 2);
        assert!(!sockets.is_stuck(0));
        assert_eq!(counts.counts().unsent, unsent);
    }
}
