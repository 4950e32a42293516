//! Receiving and sending on a Unix datagram socket.
//!
//! A peer whose queue is full makes sending fail, and the kernel does not tell when there
//! is room again. So the host asks again after a pause, for a while. Nothing is lost on a
//! Unix socket as long as both sides are there and read.

use super::address::Ends;
use super::batch::Received;
use super::network::Found;
use crate::socket_name::{SocketName, UnixName};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::os::fd::OwnedFd;

/// Receives what is there, at most one datagram per buffer. `EAGAIN` if there is
/// nothing.
pub(super) fn receive(
    socket: &OwnedFd,
    local: &UnixName,
    limit: usize,
    buffers: &mut [Box<[u8]>],
    received: &mut Vec<Received>,
) -> rustix::io::Result<Found> {
    let mut found = Found {
        count: 0,
        oversized: 0,
        dropped: None,
    };
    let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
    for (place, buffer) in buffers.iter_mut().enumerate() {
        let (length, peer) = match rustix::net::recvfrom(socket, &mut **buffer, flags) {
            Ok((_, length, peer)) => (length, peer),
            Err(error) if found.count == 0 => return Err(error),
            // The next call reports it, unless it is over by then.
            Err(_) => break,
        };
        found.count += 1;
        if length > limit {
            found.oversized += 1;
            continue;
        }
        received.push(Received {
            ends: Ends {
                peer: SocketName::Unix(UnixName::of_peer(peer)),
                local: SocketName::Unix(local.clone()),
            },
            place,
            length,
        });
    }
    Ok(found)
}

/// Sends a datagram, if the peer has room for it.
pub(super) fn send(socket: &OwnedFd, peer: &UnixName, data: &[u8]) -> rustix::io::Result<()> {
    let address = peer.address()?;
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match rustix::net::sendto(socket, data, flags, &address) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}
