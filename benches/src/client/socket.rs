//! Sockets of the clients. They block, and the clients send and receive with
//! MSG_DONTWAIT: so a connection is set up by one call, and no other has to wait.

use anyhow::{Context as _, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, UnixAddr, bind, connect, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::error::Error;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a client waits for anything. Who answers later is broken.
pub(crate) const PATIENCE_SECONDS: u16 = 10;

/// A server takes more time for so many connections than we have.
#[derive(Debug)]
pub(crate) struct TooSlow {
    open: usize,
    wanted: usize,
    time: Duration,
}

impl fmt::Display for TooSlow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { open, wanted, time } = self;
        write!(
            out,
            "only {open} of {wanted} connections were open after {time:?}"
        )
    }
}

impl Error for TooSlow {}

/// How many connections are opened before the first of them is waited for. It is small,
/// because some servers have a short backlog.
const TOGETHER: usize = 16;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// TCP, or UDP.
    Ip(SocketAddrV4),
    /// A Unix stream socket.
    Unix(PathBuf),
}

/// Connects a stream, from any address.
pub(crate) fn connect_stream(place: &Place) -> Result<OwnedFd> {
    connect_from(place, None)
}

/// Connects a stream from an address of this machine.
///
/// The ports of one address are used up by connections that were closed in the last
/// minute; who connects often comes from many addresses.
pub(crate) fn connect_from(place: &Place, source: Option<Ipv4Addr>) -> Result<OwnedFd> {
    match place {
        Place::Ip(address) => {
            let fd = stream_socket(AddressFamily::Inet)?;
            setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
            if let Some(source) = source {
                setsockopt(&fd, sockopt::IpBindAddressNoPort, &true)?;
                let source = SockaddrIn::from(SocketAddrV4::new(source, 0));
                bind(fd.as_raw_fd(), &source).context("bind")?;
            }
            connect(fd.as_raw_fd(), &SockaddrIn::from(*address)).context("connect")?;
            Ok(fd)
        }
        Place::Unix(path) => {
            let fd = stream_socket(AddressFamily::Unix)?;
            connect(fd.as_raw_fd(), &UnixAddr::new(path)?).context("connect")?;
            Ok(fd)
        }
    }
}

fn stream_socket(family: AddressFamily) -> Result<OwnedFd> {
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context("socket")?;
    let patience = TimeVal::new(PATIENCE_SECONDS.into(), 0);
    setsockopt(&fd, sockopt::SendTimeout, &patience)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
    Ok(fd)
}

/// A socket for datagrams to and from one place.
pub(crate) fn connect_datagrams(place: &Place) -> Result<OwnedFd> {
    let Place::Ip(address) = place else {
        bail!("no address for datagrams");
    };
    let family = AddressFamily::Inet;
    let fd = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).context("socket")?;
    connect(fd.as_raw_fd(), &SockaddrIn::from(*address)).context("connect")?;
    Ok(fd)
}

/// Opens many connections. Each has made a round trip then, so that it has its task, its
/// thread or its instance. A server that has not taken all of them after the time of `limit`
/// is [`TooSlow`].
pub(crate) fn open(place: &Place, count: usize, limit: Duration) -> Result<Vec<OwnedFd>> {
    let mut all = Vec::with_capacity(count);
    let begun = Instant::now();
    while all.len() < count {
        if begun.elapsed() > limit {
            bail!(TooSlow {
                open: all.len(),
                wanted: count,
                time: limit
            });
        }
        let begin = all.len();
        for _ in begin..count.min(begin + TOGETHER) {
            let fd = connect_stream(place)
                .with_context(|| format!("connection {} of {count}", all.len() + 1))?;
            all.push(fd);
        }
        let fresh = all.get(begin..).unwrap_or_default();
        for fd in fresh {
            send(fd.as_raw_fd(), b"open\n", MsgFlags::MSG_NOSIGNAL).context("send")?;
        }
        for (number, fd) in fresh.iter().enumerate() {
            receive_exactly(fd, b"open\n")
                .with_context(|| format!("connection {} of {count}", begin + number + 1))?;
        }
    }
    Ok(all)
}

/// Waits for bytes, which must be the expected ones.
pub(crate) fn receive_exactly(fd: &OwnedFd, expected: &[u8]) -> Result<()> {
    let answer = receive(fd, expected.len())?;
    let (seen, wanted) = (answer.escape_ascii(), expected.escape_ascii());
    ensure!(answer == expected, "`{seen}` came instead of `{wanted}`");
    Ok(())
}

/// Waits for so many bytes.
pub(crate) fn receive(fd: &OwnedFd, length: usize) -> Result<Vec<u8>> {
    let mut answer = vec![0; length];
    match recv(fd.as_raw_fd(), &mut answer, MsgFlags::MSG_WAITALL) {
        Ok(received) if received == length => Ok(answer),
        Ok(received) => bail!("{received} bytes of {length} came, and then the end"),
        Err(Errno::EAGAIN) => bail!("no answer in {PATIENCE_SECONDS} s"),
        Err(error) => Err(error).context("recv"),
    }
}

/// Waits for any bytes. Returns how many came; 0 is the end.
pub(crate) fn receive_some(fd: &OwnedFd, buffer: &mut [u8]) -> Result<usize> {
    match recv(fd.as_raw_fd(), buffer, MsgFlags::empty()) {
        Err(Errno::EAGAIN) => bail!("no answer in {PATIENCE_SECONDS} s"),
        result => result.context("recv"),
    }
}

/// Sends what the kernel takes at once; 0 bytes if it takes nothing.
pub(crate) fn send_now(fd: &OwnedFd, bytes: &[u8]) -> Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    match send(fd.as_raw_fd(), bytes, flags) {
        Err(Errno::EAGAIN) => Ok(0),
        result => result.context("send"),
    }
}

/// Receives what is there. `None` is that nothing is there, 0 is the end of a stream.
pub(crate) fn receive_now(fd: &OwnedFd, buffer: &mut [u8]) -> Result<Option<usize>> {
    match recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
        Ok(received) => Ok(Some(received)),
        Err(Errno::EAGAIN) => Ok(None),
        Err(error) => Err(error).context("recv"),
    }
}
