//! Sockets that listen.

use crate::wasi::io::poll::Pollable;
use crate::wasi::sockets0_2_12::instance_network::instance_network;
use crate::wasi::sockets0_2_12::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};
use crate::wasi::sockets0_2_12::tcp::TcpSocket;
use crate::wasi::sockets0_2_12::tcp_create_socket::create_tcp_socket;
use alloc::format;
use alloc::string::String;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// As `sockserve serve` has it.
const BACKLOG: u64 = 1024;

/// A socket that listens. The parts are dropped in this order, because the first is a
/// child of the second.
pub(crate) struct Listener {
    pub(crate) acceptable: Pollable,
    pub(crate) socket: TcpSocket,
    /// The address that it has got.
    pub(crate) address: SocketAddr,
}

impl Listener {
    /// Listens. The error is one line.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, String> {
        let listening = listen(address);
        listening.map_err(|code| {
            let hint = match code {
                ErrorCode::AccessDenied => "; grant it, with wasmtime run -S inherit-network",
                _ => "",
            };
            format!("cannot listen on tcp://{address}: {}{hint}", code.name())
        })
    }
}

fn listen(address: SocketAddr) -> Result<Listener, ErrorCode> {
    let family = match address {
        SocketAddr::V4(_) => IpAddressFamily::Ipv4,
        SocketAddr::V6(_) => IpAddressFamily::Ipv6,
    };
    let socket = create_tcp_socket(family)?;
    socket.start_bind(&instance_network(), wasi_address(address))?;
    finished(&socket, TcpSocket::finish_bind)?;
    // A system that refuses these has its own values.
    let _ = socket.set_listen_backlog_size(BACKLOG);
    let _ = socket.set_keep_alive_enabled(true);
    socket.start_listen()?;
    finished(&socket, TcpSocket::finish_listen)?;
    Ok(Listener {
        acceptable: socket.subscribe(),
        address: socket_addr(socket.local_address()?),
        socket,
    })
}

/// Waits for the second half of an operation.
fn finished(
    socket: &TcpSocket,
    finish: impl Fn(&TcpSocket) -> Result<(), ErrorCode>,
) -> Result<(), ErrorCode> {
    loop {
        match finish(socket) {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            done => return done,
        }
    }
}

fn wasi_address(address: SocketAddr) -> IpSocketAddress {
    match address {
        SocketAddr::V4(address) => IpSocketAddress::Ipv4(Ipv4SocketAddress {
            port: address.port(),
            address: address.ip().octets().into(),
        }),
        SocketAddr::V6(address) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port: address.port(),
            flow_info: address.flowinfo(),
            address: address.ip().segments().into(),
            scope_id: address.scope_id(),
        }),
    }
}

/// A WASI address as a type of the standard library, whose text is `HOST:PORT`.
pub(crate) fn socket_addr(address: IpSocketAddress) -> SocketAddr {
    match address {
        IpSocketAddress::Ipv4(address) => {
            let (a, b, c, d) = address.address;
            (Ipv4Addr::new(a, b, c, d), address.port).into()
        }
        IpSocketAddress::Ipv6(address) => {
            let (a, b, c, d, e, f, g, h) = address.address;
            let ip = Ipv6Addr::new(a, b, c, d, e, f, g, h);
            SocketAddrV6::new(ip, address.port, address.flow_info, address.scope_id).into()
        }
    }
}
