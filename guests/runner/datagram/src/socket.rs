//! A socket for datagrams.

use crate::loops::is_loop;
use crate::sockserve::handler::datagram::{Address, Datagram};
use crate::wasi::clocks0_2_12::monotonic_clock::subscribe_duration;
use crate::wasi::io::poll::{Pollable, poll};
use crate::wasi::sockets0_2_12::instance_network::instance_network;
use crate::wasi::sockets0_2_12::network::ErrorCode;
use crate::wasi::sockets0_2_12::udp::{
    IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket,
};
use crate::wasi::sockets0_2_12::udp_create_socket::create_udp_socket;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use runner_options::Transport;

/// The most datagrams of a batch. The contract says so.
const BATCH: u64 = 64;

/// The most answers of a batch. The contract says so.
const ANSWERS: usize = 1024;

/// How long an answer waits for room, in nanoseconds.
const PATIENCE: u64 = 100_000_000;

/// A bound socket. The parts are dropped in this order, because each is a child of one
/// that follows.
pub(crate) struct Socket {
    pub(crate) readable: Pollable,
    incoming: IncomingDatagramStream,
    outgoing: OutgoingDatagramStream,
    _socket: UdpSocket,
    /// The address that it has got.
    pub(crate) address: SocketAddr,
}

impl Socket {
    /// Binds. The error is one line.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, String> {
        bind(address)
            .map_err(|code| runner_options::listen_error_line(Transport::Udp, address, code.name()))
    }

    /// What has come: no datagram of more bytes than `most`, and none whose answer could
    /// be answered without end.
    pub(crate) fn receive(&self, most: usize, all: &[Socket]) -> Vec<Datagram> {
        // An error is that of an answer that has not arrived, or tells that nothing is
        // there.
        let datagrams = self.incoming.receive(BATCH).unwrap_or_default();
        let mut batch = Vec::with_capacity(datagrams.len());
        for datagram in datagrams {
            let peer = socket_addr(datagram.remote_address);
            let own = all.iter().map(|socket| socket.address);
            if datagram.data.len() <= most && !is_loop(peer, own) {
                batch.push(Datagram {
                    peer: Address::Ip(datagram.remote_address),
                    local: Address::Ip(ip_address(self.address)),
                    data: datagram.data,
                });
            }
        }
        batch
    }

    /// Sends answers. One that the system does not send is lost, as with UDP everywhere.
    pub(crate) fn send(&self, answers: Vec<Datagram>) {
        let mut waiting: Vec<OutgoingDatagram> = answers
            .into_iter()
            .take(ANSWERS)
            .filter_map(|answer| match answer.peer {
                Address::Ip(peer) => Some(OutgoingDatagram {
                    data: answer.data,
                    remote_address: Some(peer),
                }),
                // There are no Unix sockets here.
                Address::Unix(_) => None,
            })
            .collect();
        while !waiting.is_empty() {
            let permit = self.outgoing.check_send().unwrap_or(1);
            let permit = usize::try_from(permit).unwrap_or(usize::MAX);
            if permit == 0 {
                let writable = self.outgoing.subscribe();
                if poll(&[&writable, &subscribe_duration(PATIENCE)]) == [1] {
                    return;
                }
                continue;
            }
            let now = waiting.get(..permit.min(waiting.len())).unwrap_or_default();
            // The first one that is not sent is at fault.
            let sent = self.outgoing.send(now);
            let sent = sent.map_or(1, |sent| usize::try_from(sent).unwrap_or(usize::MAX));
            waiting.drain(..sent.clamp(0, waiting.len()));
        }
    }
}

fn bind(address: SocketAddr) -> Result<Socket, ErrorCode> {
    let socket = create_udp_socket(family(address))?;
    socket.start_bind(&instance_network(), ip_address(address))?;
    loop {
        match socket.finish_bind() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            done => break done?,
        }
    }
    let (incoming, outgoing) = socket.stream(None)?;
    Ok(Socket {
        readable: incoming.subscribe(),
        incoming,
        outgoing,
        address: socket_addr(socket.local_address()?),
        _socket: socket,
    })
}

bindings::addresses!(pub(crate), crate::wasi::sockets0_2_12::network);
