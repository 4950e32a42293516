//! The datagram sockets of a service: what they have in common, and receiving.

use super::answers::{Answers, is_loop};
use super::batch::Batch;
use super::counts::{Datagrams, add};
use super::network::{self, Found};
use super::slow::Slow;
use super::{MAX_BATCH, MAX_DATA, local};
use crate::connection::register::register;
use crate::connection::traffic::Traffic;
use crate::lifecycle::Quota;
use crate::socket_file::SocketFile;
use crate::socket_name::SocketName;
use crate::sync::lock;
use rustix::io::Errno;
use rustix::net::sockopt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// How many batches are received in a row that have nothing for the guest, before other
/// tasks get the thread.
const ROUNDS: usize = 8;

/// The least room that is made for a batch.
const FEWEST: usize = 4;

/// The send buffer of a Unix socket, in bytes.
const SEND_BUFFER: usize = 4 << 20;

/// The least memory that the kernel takes for a waiting datagram, in bytes.
const KERNEL_OVERHEAD: usize = 512;

/// All datagram sockets of a service, and who may be answered. One task receives; any
/// may send.
pub(crate) struct Sockets {
    pub(super) all: Vec<Socket>,
    /// The socket that is received from first at the next time.
    next: AtomicUsize,
    pub(super) answers: Mutex<Answers>,
    pub(super) slow: Slow,
    gate: Gate,
    pub(super) counts: Arc<Datagrams>,
    /// The bytes of the service.
    pub(super) traffic: Arc<Traffic>,
}

/// One socket.
pub(super) struct Socket {
    pub(super) registration: AsyncFd<Arc<OwnedFd>>,
    /// The address that it is bound to.
    pub(super) name: SocketName,
    /// Whether others have received from it before.
    is_inherited: bool,
    /// Datagrams that the kernel has dropped, as it last said. `None` if it has not yet
    /// said how many it had dropped before the socket was ours.
    dropped: Mutex<Option<u32>>,
    /// How many datagrams may come at the next time. Room for more costs time.
    expected: AtomicUsize,
    /// Whether its send buffer was found full, and nothing was sent since.
    pub(super) is_stuck: AtomicBool,
    /// Declared after the descriptor: nobody can write any more when the file is
    /// removed.
    _file: Option<Arc<SocketFile>>,
}

/// A socket as it was bound.
pub(crate) struct Bound {
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) file: Option<Arc<SocketFile>>,
    /// Whether others have received from it before.
    pub(crate) is_inherited: bool,
}

/// Which datagrams come in.
pub(crate) struct Gate {
    /// Whether datagrams are taken that could make a loop.
    pub(crate) may_loop: bool,
    /// Whether a sender's datagram may come in. It is counted elsewhere if not.
    pub(crate) lets_in: Box<dyn Fn(&SocketName) -> bool + Send + Sync>,
    /// How many the service takes in its life.
    pub(crate) quota: Arc<Quota>,
}

impl Gate {
    /// Lets all senders in.
    pub(crate) fn open(may_loop: bool) -> Self {
        Self {
            may_loop,
            lets_in: Box::new(|_| true),
            quota: Arc::new(Quota::new(None)),
        }
    }
}

/// What the kernel may still have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    Perhaps,
}

/// What was taken from the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// Datagrams, those included that no guest gets; an error counts as one.
    pub(crate) count: usize,
    pub(crate) left: Left,
}

impl Taken {
    const NOTHING: Self = Self {
        count: 0,
        left: Left::Nothing,
    };
}

/// What is received, and how much of it.
pub(crate) struct Wanted {
    /// Datagrams, at most [`MAX_BATCH`].
    pub(crate) count: usize,
    /// Bytes of a datagram, at most [`MAX_DATA`].
    pub(crate) max_bytes: usize,
}

impl Sockets {
    /// Takes bound sockets. Called inside of the service's runtime.
    pub(crate) fn new(
        sockets: Vec<Bound>,
        gate: Gate,
        counts: Arc<Datagrams>,
        traffic: Arc<Traffic>,
    ) -> io::Result<Self> {
        let all = sockets.into_iter().map(|bound| {
            let Bound {
                socket,
                file,
                is_inherited,
            } = bound;
            let name = SocketName::try_from(rustix::net::getsockname(&socket)?)?;
            match name {
                SocketName::Ip(name) => network::prepare(&socket, name)?,
                // What a peer has not read takes room in it. The system gives what it
                // permits (net.core.wmem_max).
                SocketName::Unix(_) if !is_inherited => {
                    sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER)?;
                }
                SocketName::Unix(_) => {}
            }
            Ok(Socket {
                registration: register(socket, Interest::READABLE)?,
                name,
                is_inherited,
                dropped: Mutex::new((!is_inherited).then_some(0)),
                expected: AtomicUsize::new(FEWEST),
                is_stuck: AtomicBool::new(false),
                _file: file,
            })
        });
        Ok(Self {
            all: all.collect::<io::Result<_>>()?,
            next: AtomicUsize::new(0),
            answers: Mutex::default(),
            slow: Slow::default(),
            gate,
            counts,
            traffic,
        })
    }

    /// Waits until datagrams for the guest have come, and receives them from one socket.
    pub(crate) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        batch: &mut Batch,
        wanted: &Wanted,
    ) -> Poll<io::Result<()>> {
        let first = self.next.load(Ordering::Relaxed);
        for round in 0..ROUNDS {
            let mut is_any_ready = false;
            for at in 0..self.all.len() {
                let at = (first + round + at) % self.all.len();
                let Some(socket) = self.all.get(at) else {
                    continue;
                };
                let Poll::Ready(guard) = socket.registration.poll_read_ready(cx) else {
                    continue;
                };
                let mut guard = guard?;
                is_any_ready = true;
                // If the kernel had no more: what comes from now on is a new event,
                // which this does not clear.
                if self.receive(at, socket, batch, wanted)?.left == Left::Nothing {
                    guard.clear_ready();
                }
                if !batch.is_empty() {
                    self.next
                        .store((at + 1) % self.all.len(), Ordering::Relaxed);
                    return Poll::Ready(Ok(()));
                }
            }
            if !is_any_ready {
                return Poll::Pending;
            }
        }
        // Many datagrams that nobody wants.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Receives datagrams that are there already, from one socket. Looks at each socket
    /// once: those that came may all be for nobody.
    pub(crate) fn receive_now(&self, batch: &mut Batch, wanted: &Wanted) -> io::Result<Taken> {
        let first = self.next.load(Ordering::Relaxed);
        let mut all = Taken::NOTHING;
        for at in 0..self.all.len() {
            let at = (first + at) % self.all.len();
            let Some(socket) = self.all.get(at) else {
                continue;
            };
            let taken = self.receive(at, socket, batch, wanted)?;
            all.count += taken.count;
            if taken.left == Left::Perhaps {
                all.left = Left::Perhaps;
            }
            if !batch.is_empty() {
                self.next
                    .store((at + 1) % self.all.len(), Ordering::Relaxed);
                break;
            }
        }
        Ok(all)
    }

    /// Drops received datagrams that are longer than is wanted now.
    pub(crate) fn drop_oversized(&self, batch: &mut Batch, wanted: &Wanted) {
        let before = batch.len();
        batch.received.retain(|it| it.length <= wanted.max_bytes);
        add(&self.counts.oversized, before - batch.len());
    }

    /// How many datagrams the kernel can hold at most.
    pub(crate) fn most_waiting(&self) -> usize {
        let sizes = self.all.iter().map(|socket| {
            let size = sockopt::socket_recv_buffer_size(socket.registration.get_ref());
            size.unwrap_or_default() / KERNEL_OVERHEAD
        });
        sizes.sum::<usize>().max(MAX_BATCH)
    }

    /// Receives from one socket what is there. Those that the guest gets are in the batch.
    fn receive(
        &self,
        at: usize,
        socket: &Socket,
        batch: &mut Batch,
        wanted: &Wanted,
    ) -> io::Result<Taken> {
        let (buffers, received) = batch.parts();
        received.clear();
        let expected = socket.expected.load(Ordering::Relaxed);
        let left = usize::try_from(self.gate.quota.left()).unwrap_or(usize::MAX);
        let room = wanted.count.min(expected).min(buffers.len()).min(left);
        if room == 0 {
            return Ok(Taken::NOTHING);
        }
        let (buffers, _) = buffers.split_at_mut(room);
        let limit = wanted.max_bytes.min(MAX_DATA);
        let descriptor = socket.registration.get_ref();
        let found = match &socket.name {
            SocketName::Ip(name) => {
                let is_inherited = socket.is_inherited;
                network::receive(descriptor, *name, is_inherited, limit, buffers, received)
                    .map_err(|error| Errno::from_raw_os_error(error as i32))
            }
            SocketName::Unix(name) => local::receive(descriptor, name, limit, buffers, received),
        };
        let Found {
            count,
            oversized,
            dropped,
        } = match found {
            Ok(found) => found,
            Err(Errno::AGAIN) => return Ok(Taken::NOTHING),
            Err(error @ (Errno::NOBUFS | Errno::NOMEM)) => {
                tracing::warn!(%error, "receiving: the machine is out of memory");
                // Tried again when the next one comes.
                return Ok(Taken::NOTHING);
            }
            Err(error) if is_of_the_past(error) => {
                tracing::debug!(%error, "receiving: an error of an earlier answer");
                let left = Left::Perhaps;
                return Ok(Taken { count: 1, left });
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(dropped) = dropped {
            let before = lock(&socket.dropped).replace(dropped);
            let more = dropped.wrapping_sub(before.unwrap_or(dropped));
            add(
                &self.counts.dropped_by_kernel,
                usize::try_from(more).unwrap_or_default(),
            );
        }
        let came = received.len();
        if !self.gate.may_loop {
            received.retain(|it| !is_loop(&it.ends, self.all.iter().map(|socket| &socket.name)));
        }
        add(&self.counts.received, count);
        add(&self.counts.oversized, oversized);
        add(&self.counts.loops, came - received.len());
        received.retain(|it| (self.gate.lets_in)(&it.ends.peer));
        self.gate.quota.take(received.len() as u64);
        let mut answers = lock(&self.answers);
        for datagram in received.iter() {
            answers.note(&datagram.ends, at);
            self.traffic.add_in(datagram.length);
        }
        let next = (count * 2).clamp(FEWEST, MAX_BATCH);
        socket.expected.store(next, Ordering::Relaxed);
        let left = if count < room {
            Left::Nothing
        } else {
            Left::Perhaps
        };
        Ok(Taken { count, left })
    }
}

/// Whether an error of receiving is one that an earlier answer has met on its way: ICMP
/// said that nobody takes it. It disturbs nobody else.
fn is_of_the_past(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNREFUSED
            | Errno::CONNRESET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::NETDOWN
            | Errno::HOSTDOWN
            | Errno::MSGSIZE
            | Errno::PROTO
            | Errno::ACCESS
            | Errno::PERM
            | Errno::INTR
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::net::UdpSocket;

    const WANTED: Wanted = Wanted {
        count: MAX_BATCH,
        max_bytes: 2000,
    };

    /// Sockets that have this one only.
    pub(crate) fn sockets(
        socket: impl Into<OwnedFd>,
        is_inherited: bool,
    ) -> (Sockets, Arc<Datagrams>) {
        let socket = socket.into();
        rustix::io::ioctl_fionbio(&socket, true).unwrap();
        let bound = Bound {
            socket: Arc::new(socket),
            file: None,
            is_inherited,
        };
        let counts = Arc::<Datagrams>::default();
        let sockets = Sockets::new(
            vec![bound],
            Gate::open(false),
            Arc::clone(&counts),
            Arc::default(),
        );
        (sockets.unwrap(), counts)
    }

    /// Sends more than the socket has room for, and one more when there is room again.
    fn overflow(peer: &UdpSocket, mut receive: impl FnMut()) {
        for _ in 0..2000 {
            peer.send(&[0; 1000]).unwrap();
        }
        receive();
        peer.send(b"last").unwrap();
        receive();
    }

    #[tokio::test]
    async fn what_was_dropped_before_a_socket_was_ours_is_not_counted() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.connect(socket.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        overflow(&peer, || while socket.recv(&mut [0; 1000]).is_ok() {});

        let (sockets, counts) = sockets(socket, true);
        let mut batch = Batch::new();
        let mut receive = || {
            while sockets.receive_now(&mut batch, &WANTED).unwrap().count > 0 {}
            counts.counts().dropped_by_kernel
        };
        peer.send(b"first").unwrap();
        assert_eq!(receive(), 0);
        overflow(&peer, || {
            receive();
        });
        let received = counts.counts().received;
        assert_eq!(received + receive(), 2002);
        assert!(received < 2002, "{received}");
    }
}
