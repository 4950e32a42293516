//! Sockets that listen.

use crate::wasi::sockets0_3_0::types::{ErrorCode, TcpSocket};
use alloc::string::String;
use core::net::SocketAddr;
use runner_options::Transport;
use wit_bindgen::StreamReader;

/// As `sockserve serve` has it.
const BACKLOG: u64 = 1024;

/// A socket that listens.
pub(crate) struct Listener {
    pub(crate) accepted: StreamReader<TcpSocket>,
    /// The address that it has got.
    pub(crate) address: SocketAddr,
    /// It listens as long as this lives.
    _socket: TcpSocket,
}

impl Listener {
    /// Listens. The error is one line.
    pub(crate) fn new(address: SocketAddr) -> Result<Self, String> {
        listen(address).map_err(|code| {
            runner_options::listen_error_line(Transport::Tcp, address, error_name(&code))
        })
    }
}

fn listen(address: SocketAddr) -> Result<Listener, ErrorCode> {
    let socket = TcpSocket::create(family(address))?;
    socket.bind(ip_address(address))?;
    // A system that refuses these has its own values.
    let _ = socket.set_listen_backlog_size(BACKLOG);
    let _ = socket.set_keep_alive_enabled(true);
    let accepted = socket.listen()?;
    Ok(Listener {
        accepted,
        address: socket_addr(socket.get_local_address()?),
        _socket: socket,
    })
}

bindings::addresses!(pub(crate), crate::wasi::sockets0_3_0::types);

bindings::error_name!(pub(crate), crate::wasi::sockets0_3_0::types);
