//! A socket for datagrams.

use crate::loops::is_loop;
use crate::sockserve::handler::datagram_concurrent::{Address, Datagram};
use crate::wasi::sockets0_3_0::types::{ErrorCode, IpSocketAddress, UdpSocket};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::SocketAddr;
use runner_options::Transport;

/// A bound socket.
pub(crate) struct Socket {
    socket: UdpSocket,
    /// The address that it has got.
    pub(crate) address: SocketAddr,
}

/// A datagram as it came.
pub(crate) type Received = (Vec<u8>, IpSocketAddress);

impl Socket {
    /// Binds. The error is one line.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, String> {
        bind(address).map_err(|code| {
            runner_options::listen_error_line(Transport::Udp, address, error_name(&code))
        })
    }

    /// The next datagram. `None` if the system has told an error instead.
    pub(crate) async fn receive(self: Rc<Self>) -> (Rc<Self>, Option<Received>) {
        let received = self.socket.receive().await.ok();
        (self, received)
    }

    /// The datagram for the handler, unless it has more bytes than `most`, or its answer
    /// could be answered without end.
    pub(crate) fn accept(
        &self,
        (data, peer): Received,
        most: usize,
        own: Vec<SocketAddr>,
    ) -> Option<Datagram> {
        (data.len() <= most && !is_loop(socket_addr(peer), own)).then(|| Datagram {
            peer: Address::Ip(peer),
            local: Address::Ip(ip_address(self.address)),
            data,
        })
    }

    /// Whether this is its address.
    pub(crate) fn is_at(&self, address: &Address) -> bool {
        match address {
            Address::Ip(address) => socket_addr(*address) == self.address,
            Address::Unix(_) => false,
        }
    }

    /// Sends an answer. One that the system does not send is lost, as with UDP
    /// everywhere. There are no Unix sockets here.
    pub(crate) async fn send(&self, answer: Datagram) {
        if let Address::Ip(peer) = answer.peer {
            let _ = self.socket.send(answer.data, Some(peer)).await;
        }
    }
}

fn bind(address: SocketAddr) -> Result<Socket, ErrorCode> {
    let socket = UdpSocket::create(family(address))?;
    socket.bind(ip_address(address))?;
    Ok(Socket {
        address: socket_addr(socket.get_local_address()?),
        socket,
    })
}

bindings::addresses!(pub(crate), crate::wasi::sockets0_3_0::types);
bindings::error_name!(pub(crate), crate::wasi::sockets0_3_0::types);
