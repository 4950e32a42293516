//! Datagrams, to one peer and with a time-out.

use crate::wait::Deadline;
use crate::{address, of, print};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use wasi::sockets::instance_network::instance_network;
use wasi::sockets::udp::OutgoingDatagram;
use wasi::sockets::udp_create_socket::create_udp_socket;

/// Sends a datagram and prints the answer, if it comes in time.
pub(crate) fn exchange(to: SocketAddr, milliseconds: u64) -> Result<(), String> {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = of("socket", create_udp_socket(address::family(to)))?;
    let bound = socket.start_bind(&instance_network(), address::ip_address(any));
    of("bind", bound)?;
    of("bind", socket.finish_bind())?;
    let streams = socket.stream(Some(address::ip_address(to)));
    let (incoming, outgoing) = of("connect", streams)?;
    let remote = of("remote address", socket.remote_address())?;
    println!("remote {}", address::socket_addr(remote));
    let nothing = of("receive", incoming.receive(1))?;
    println!("before: {} datagrams", nothing.len());
    let deadline = Deadline::after(Some(milliseconds));
    while of("send", outgoing.check_send())? == 0 {
        if !deadline.wait_for(&outgoing.subscribe()) {
            return Err("send: timeout".to_owned());
        }
    }
    let datagram = OutgoingDatagram {
        data: b"Hello World\n".to_vec(),
        remote_address: None,
    };
    of("send", outgoing.send(&[datagram]))?;
    loop {
        if !deadline.wait_for(&incoming.subscribe()) {
            return Err("receive: timeout".to_owned());
        }
        if let Some(answer) = of("receive", incoming.receive(1))?.first() {
            return print(&answer.data);
        }
    }
}
