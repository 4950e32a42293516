//! What becomes of the socket of a refused peer.
//!
//! It holds no permit, so its number is bounded here. Nothing that a refused peer does
//! takes more than a descriptor and a small buffer, for a short time.

use crate::connection::register::register;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Semaphore;

/// How long the close of a refused connection may take, and how much of what the peer has
/// sent is read meanwhile, in bytes.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_DROPPED: usize = 64 << 10;

/// How long a refused connection is held.
const HOLD_TIME: Duration = Duration::from_secs(10);

/// How many refused connections are closed in order at once, and how many are held.
const MOST_CLOSING: u32 = 64;
const MOST_HELD: u32 = 256;

/// What a refused peer gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnRefuse {
    /// A reset: an error, for each peer that is refused. Nothing of the connection is
    /// left in this machine's kernel. A Unix socket has no reset, and its peer gets an end
    /// of file.
    Reset,
    /// An end of file, after the banner if there is one. The default: every client knows
    /// what it means, and none takes it for a fault of the network that another try
    /// would mend.
    #[default]
    Close,
    /// Nothing for ten seconds, and then a reset, so that its next try comes later. When
    /// 256 connections are held, further ones are reset at once.
    Hold,
}

impl OnRefuse {
    /// How many sockets of refused peers may be open at once.
    pub(super) fn room(self) -> u32 {
        match self {
            Self::Reset => 0,
            Self::Close => MOST_CLOSING,
            Self::Hold => MOST_HELD,
        }
    }
}

/// Says farewell to refused peers.
#[derive(Debug)]
pub(super) struct Farewells {
    /// A permit per socket that is open for a while.
    room: Arc<Semaphore>,
}

impl Farewells {
    /// Makes room for so many sockets.
    pub(super) fn new(room: u32) -> Self {
        Self {
            room: Arc::new(Semaphore::new(room as usize)),
        }
    }

    /// Makes room for so many more.
    pub(super) fn add_room(&self, more: u32) {
        self.room.add_permits(more as usize);
    }

    /// Closes the socket of a refused peer, now or in a task of the runtime that this is
    /// called in.
    pub(super) fn dismiss(&self, socket: OwnedFd, how: OnRefuse, banner: &[u8]) {
        let room = || Arc::clone(&self.room).try_acquire_owned().ok();
        match how {
            OnRefuse::Reset => reset(socket),
            OnRefuse::Close => {
                // A new connection has room for all of it, or has gone.
                let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                let _ = rustix::net::send(&socket, banner, flags);
                let _ = rustix::net::shutdown(&socket, Shutdown::Write);
                if let Some(room) = room() {
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(CLOSE_TIMEOUT, read_to_end(socket)).await;
                        drop(room);
                    });
                }
            }
            OnRefuse::Hold => match room() {
                Some(room) => {
                    tokio::spawn(async move {
                        hold(socket).await;
                        drop(room);
                    });
                }
                None => reset(socket),
            },
        }
    }
}

/// Closes a socket with a reset.
fn reset(socket: OwnedFd) {
    // The close after it says the rest.
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
}

/// Reads what the peer sends, and drops it, up to its end: a close over unread input
/// would send a reset, which can overtake the banner.
async fn read_to_end(socket: OwnedFd) -> io::Result<()> {
    let socket = register(Arc::new(socket), Interest::READABLE)?;
    let mut buffer = [0; 4096];
    let mut dropped = 0;
    while dropped < MAX_DROPPED {
        let mut ready = socket.readable().await?;
        match rustix::net::recv(socket.get_ref(), &mut buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => break,
            Ok((read, _)) => dropped += read,
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Keeps a socket open until the peer closes it, and no longer than [`HOLD_TIME`].
async fn hold(socket: OwnedFd) {
    // What the peer sends stays with the kernel: as little as it takes at least.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, 1);
    let socket = Arc::new(socket);
    if let Ok(registration) = register(Arc::clone(&socket), Interest::READABLE) {
        let _ = tokio::time::timeout(HOLD_TIME, hung_up(&registration)).await;
    }
    if let Some(socket) = Arc::into_inner(socket) {
        reset(socket);
    }
}

/// Waits until the peer has closed its side.
async fn hung_up(socket: &AsyncFd<Arc<OwnedFd>>) -> io::Result<()> {
    loop {
        let mut ready = socket.readable().await?;
        if ready.ready().is_read_closed() {
            return Ok(());
        }
        ready.clear_ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use tokio::time::Instant;

    /// A peer, and the accepted side of its connection.
    fn pair() -> (TcpStream, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        (peer, accepted.into())
    }

    /// Waits until as many sockets may be open as at first.
    async fn all_gone(farewells: &Farewells, room: u32) {
        let _ = farewells.room.acquire_many(room).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_held_for_a_while_and_then_reset() {
        let farewells = Farewells::new(1);
        let (mut held, socket) = pair();
        let (mut beyond, other) = pair();
        let begun = Instant::now();
        farewells.dismiss(socket, OnRefuse::Hold, b"");
        farewells.dismiss(other, OnRefuse::Hold, b"");
        let reset = |peer: &mut TcpStream| peer.read(&mut [0]).unwrap_err().kind();
        assert_eq!(reset(&mut beyond), ErrorKind::ConnectionReset);
        all_gone(&farewells, 1).await;
        assert!(begun.elapsed() >= HOLD_TIME);
        assert_eq!(reset(&mut held), ErrorKind::ConnectionReset);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_goes_is_held_no_longer() {
        let farewells = Farewells::new(1);
        let (mut held, socket) = pair();
        // Unread input does not hide the end.
        held.write_all(b"hello").unwrap();
        farewells.dismiss(socket, OnRefuse::Hold, b"");
        drop(held);
        let begun = Instant::now();
        all_gone(&farewells, 1).await;
        assert!(begun.elapsed() < HOLD_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn a_banner_comes_whole_though_the_peer_has_sent_something() {
        let farewells = Farewells::new(1);
        let (mut peer, socket) = pair();
        peer.write_all(&[b'x'; 10_000]).unwrap();
        farewells.dismiss(socket, OnRefuse::Close, b"not now\r\n");
        let reading = tokio::task::spawn_blocking(move || {
            let mut read = String::new();
            peer.read_to_string(&mut read).map(|_| read)
        });
        assert_eq!(reading.await.unwrap().unwrap(), "not now\r\n");
        all_gone(&farewells, 1).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_without_end_is_not_read_for_ever() {
        let farewells = Farewells::new(1);
        let (mut peer, socket) = pair();
        let sending = std::thread::spawn(move || while peer.write_all(&[0; 4096]).is_ok() {});
        farewells.dismiss(socket, OnRefuse::Close, b"");
        all_gone(&farewells, 1).await;
        sending.join().unwrap();
    }

    #[test]
    fn each_way_has_its_room() {
        assert_eq!(OnRefuse::default(), OnRefuse::Close);
        assert_eq!(OnRefuse::Reset.room(), 0);
        assert_eq!(OnRefuse::Close.room(), 64);
        assert_eq!(OnRefuse::Hold.room(), 256);
    }
}
