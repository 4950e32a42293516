//! Sockets that listen.

use crate::wasi::sockets0_3_0::types::{ErrorCode, TcpSocket};
use alloc::format;
use alloc::string::String;
use core::net::SocketAddr;
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
            let hint = match code {
                ErrorCode::AccessDenied => "; grant it, with wasmtime run -S inherit-network",
                _ => "",
            };
            format!(
                "cannot listen on tcp://{address}: {}{hint}",
                error_name(&code)
            )
        })
    }
}

fn listen(address: SocketAddr) -> Result<Listener, ErrorCode> {
    let socket = TcpSocket::create(family(address))?;
    socket.bind(wasi_address(address))?;
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

runner_base::addresses!(crate::wasi::sockets0_3_0::types);

runner_base::error_name!(crate::wasi::sockets0_3_0::types);
