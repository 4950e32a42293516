//! Sockets that listen.

use crate::wasi::io::poll::Pollable;
use crate::wasi::sockets0_2_12::instance_network::instance_network;
use crate::wasi::sockets0_2_12::network::ErrorCode;
use crate::wasi::sockets0_2_12::tcp::TcpSocket;
use crate::wasi::sockets0_2_12::tcp_create_socket::create_tcp_socket;
use alloc::string::String;
use core::net::SocketAddr;
use runner_options::Transport;

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
        listen(address)
            .map_err(|code| runner_options::listen_error_line(Transport::Tcp, address, code.name()))
    }
}

fn listen(address: SocketAddr) -> Result<Listener, ErrorCode> {
    let socket = create_tcp_socket(family(address))?;
    socket.start_bind(&instance_network(), ip_address(address))?;
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

bindings::addresses!(pub(crate), crate::wasi::sockets0_2_12::network);
