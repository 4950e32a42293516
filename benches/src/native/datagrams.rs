//! Echoes of datagrams: one at a time with Tokio, and in batches with `recvmmsg`.

use anyhow::{Context as _, Result};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

const LONGEST: usize = 64 << 10;

/// How many datagrams are received at once, as by the `datagram` contract's host.
const BATCH: usize = 64;

/// One datagram at a time.
pub(super) async fn serve_tokio() -> Result<()> {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await?;
    println!("listening udp://{}", socket.local_addr()?);
    let mut buffer = vec![0; LONGEST];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await?;
        let datagram = buffer.get(..length).unwrap_or_default();
        socket.send_to(datagram, peer).await?;
    }
}

/// All that is there, by one call, and back, by another.
pub(super) fn serve_recvmmsg() -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    println!("listening udp://{}", socket.local_addr()?);
    let mut buffers = vec![vec![0; LONGEST]; BATCH];
    let mut received = Vec::with_capacity(BATCH);
    loop {
        receive(&socket, &mut buffers, &mut received)?;
        let mut first = 0;
        while first < received.len() {
            first += send(&socket, &buffers, &received, first)?;
        }
    }
}

/// How long a datagram is, and who has sent it.
type Received = (usize, Option<SockaddrIn>);

/// Waits for a datagram, and takes those that have come with it.
fn receive(
    socket: &UdpSocket,
    buffers: &mut [Vec<u8>],
    received: &mut Vec<Received>,
) -> Result<()> {
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(buffers.len(), None);
    let slices = buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]);
    let mut slices: Vec<_> = slices.collect();
    let flags = MsgFlags::MSG_WAITFORONE;
    let messages = recvmmsg(
        socket.as_raw_fd(),
        &mut headers,
        slices.iter_mut(),
        flags,
        None,
    );
    received.clear();
    let messages = messages.context("recvmmsg")?;
    received.extend(messages.map(|message| (message.bytes, message.address)));
    Ok(())
}

/// Sends datagrams back, from the one with the number `first`. Returns how many the
/// kernel took.
fn send(
    socket: &UdpSocket,
    buffers: &[Vec<u8>],
    received: &[Received],
    first: usize,
) -> Result<usize> {
    let pairs = buffers.iter().zip(received).skip(first);
    let slices: Vec<_> = pairs
        .map(|(buffer, (length, _))| [IoSlice::new(buffer.get(..*length).unwrap_or_default())])
        .collect();
    let addresses: Vec<_> = received.iter().skip(first).map(|(_, peer)| *peer).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(slices.len(), None);
    let sent = sendmmsg(
        socket.as_raw_fd(),
        &mut headers,
        &slices,
        &addresses,
        [],
        MsgFlags::empty(),
    );
    Ok(sent.context("sendmmsg")?.count())
}
