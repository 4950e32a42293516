//! Receiving and sending on a UDP socket: one system call for a batch, each way.
//!
//! On a socket for all addresses of the machine the kernel says for each datagram which
//! of them it came to (IP_PKTINFO), and is told from which an answer leaves.

use super::address::Ends;
use super::batch::Received;
use crate::socket_name::SocketName;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
    sendmmsg, setsockopt, sockopt,
};
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

/// What receiving has found beside the datagrams.
pub(super) struct Found {
    /// Datagrams that came, those that are too long included.
    pub(super) count: usize,
    /// Datagrams that are longer than the limit.
    pub(super) oversized: usize,
    /// How many datagrams the kernel had dropped since the socket was made. `None` if
    /// it does not say.
    pub(super) dropped: Option<u32>,
}

/// Room for control messages that were asked for by whoever has passed the socket on, such
/// as times. Without room for them the kernel leaves out some of ours.
type Others = [u8; 128];

/// Lets the kernel say what a batch needs to know.
pub(super) fn prepare(socket: &OwnedFd, local: SocketAddr) -> nix::Result<()> {
    setsockopt(socket, sockopt::RxqOvfl, &1)?;
    if local.ip().is_unspecified() {
        if local.is_ipv6() {
            setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            // An inherited socket may be for IPv4 as well.
            let _ = setsockopt(socket, sockopt::Ipv4PacketInfo, &true);
        } else {
            setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?;
        }
    }
    Ok(())
}

/// Receives what is there, at most one datagram per buffer. `EAGAIN` if there is
/// nothing. `is_inherited` is whether others may have asked the kernel for more than
/// [`prepare`] has.
pub(super) fn receive(
    socket: &OwnedFd,
    local: SocketAddr,
    is_inherited: bool,
    limit: usize,
    buffers: &mut [Box<[u8]>],
    received: &mut Vec<Received>,
) -> nix::Result<Found> {
    // The headers are made anew for each call: the kernel writes lengths into them, which
    // nix does not set back.
    let control = if is_inherited {
        cmsg_space!(in6_pktinfo, in_pktinfo, u32, Others)
    } else if local.ip().is_unspecified() {
        cmsg_space!(in6_pktinfo, in_pktinfo, u32)
    } else {
        cmsg_space!(u32)
    };
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(buffers.len(), Some(control));
    let mut slices: Vec<_> = buffers
        .iter_mut()
        .map(|buffer| [IoSliceMut::new(buffer)])
        .collect();
    // With MSG_TRUNC the length of a datagram is its whole length.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
    let messages = recvmmsg(
        socket.as_raw_fd(),
        &mut headers,
        slices.iter_mut(),
        flags,
        None,
    )?;
    let mut found = Found {
        count: 0,
        oversized: 0,
        dropped: None,
    };
    for (place, message) in messages.enumerate() {
        found.count += 1;
        let mut to = local;
        for control in message.cmsgs().into_iter().flatten() {
            match control {
                ControlMessageOwned::RxqOvfl(dropped) => found.dropped = Some(dropped),
                ControlMessageOwned::Ipv4PacketInfo(info) => to.set_ip(written_to(&info, local)),
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    if !ip.is_multicast() {
                        to.set_ip(ip.into());
                    }
                }
                _ => {}
            }
        }
        if message.bytes > limit {
            found.oversized += 1;
            continue;
        }
        let Some(peer) = message.address.as_ref().and_then(socket_addr) else {
            continue;
        };
        received.push(Received {
            ends: Ends {
                peer: SocketName::Ip(peer),
                local: SocketName::Ip(to),
            },
            place,
            length: message.bytes,
        });
    }
    Ok(found)
}

/// Our address that a datagram was written to; for a broadcast or multicast the address
/// of the interface (ip(7)).
///
/// The kernel knows the latter only of datagrams that came after it was asked for it
/// (`prepare`). An inherited socket may have others.
fn written_to(info: &in_pktinfo, local: SocketAddr) -> IpAddr {
    let [own, header] = [info.ipi_spec_dst, info.ipi_addr];
    let [own, header] = [own, header].map(|it| Ipv4Addr::from(u32::from_be(it.s_addr)));
    let ip = if own.is_unspecified() && !header.is_multicast() && !header.is_broadcast() {
        header
    } else {
        own
    };
    match local {
        SocketAddr::V4(_) => ip.into(),
        SocketAddr::V6(_) => ip.to_ipv6_mapped().into(),
    }
}

fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(address) = address.as_sockaddr_in() {
        return Some(std::net::SocketAddrV4::from(*address).into());
    }
    address
        .as_sockaddr_in6()
        .map(|address| std::net::SocketAddrV6::from(*address).into())
}

/// Sends datagrams that leave from the same address, as many as the kernel takes.
/// Returns how many it took; an error is that of the first one. `from` is the address, or
/// `None` for a socket that has only one.
pub(super) fn send<'a>(
    socket: &OwnedFd,
    from: Option<IpAddr>,
    outgoing: impl ExactSizeIterator<Item = (SocketAddr, &'a [u8])>,
) -> nix::Result<usize> {
    let count = outgoing.len();
    let (mut peers, mut slices) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for (peer, data) in outgoing {
        peers.push(Some(SockaddrStorage::from(peer)));
        slices.push([IoSlice::new(data)]);
    }
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let (v4, v6);
    let control = match from.map(|from| from.to_canonical()) {
        None => None,
        Some(IpAddr::V4(ip)) => {
            v4 = in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr {
                    s_addr: u32::from(ip).to_be(),
                },
                ipi_addr: in_addr { s_addr: 0 },
            };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        Some(IpAddr::V6(ip)) => {
            v6 = in6_pktinfo {
                ipi6_addr: in6_addr {
                    s6_addr: ip.octets(),
                },
                ipi6_ifindex: 0,
            };
            Some(ControlMessage::Ipv6PacketInfo(&v6))
        }
    };
    let space = match control {
        Some(ControlMessage::Ipv4PacketInfo(_)) => Some(cmsg_space!(in_pktinfo)),
        Some(_) => Some(cmsg_space!(in6_pktinfo)),
        None => None,
    };
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(count, space);
    let controls: Vec<_> = control.into_iter().collect();
    loop {
        let sent = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            &slices,
            &peers,
            &controls,
            flags,
        );
        match sent {
            Ok(sent) => return Ok(sent.count()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}
