//! The shell for the contracts on WASI 0.2: the bindings of both, and the code that
//! carries a [`protocol::Session`] over each.

pub mod blocking;
pub mod evented;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use wasi::io::streams::{OutputStream, StreamError};
use wasi::sockets::network::IpSocketAddress;
use wasi::sockets::tcp::TcpSocket;

/// The most bytes that one read or write moves. The host permits no more at once.
pub const CHUNK: usize = 64 * 1024;

/// The peer's address. The error is one line for the host's log.
pub fn peer(socket: &TcpSocket) -> Result<SocketAddr, String> {
    match socket.remote_address() {
        Ok(address) => Ok(socket_addr(address)),
        Err(code) => Err(format!("remote-address: {}", code.name())),
    }
}

/// A WASI address as a type of the standard library, whose text is `HOST:PORT`.
pub fn socket_addr(address: IpSocketAddress) -> SocketAddr {
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

/// How many bytes can be written now.
pub fn permit(output: &OutputStream) -> Result<usize, StreamError> {
    Ok(usize::try_from(output.check_write()?).unwrap_or(CHUNK))
}

/// Writes all of `bytes`, as much at a time as the stream permits, and waits in
/// between.
///
/// `blocking-write-and-flush` does the same, but moves at most 4 KiB at a time.
pub fn write_all(output: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let permit = permit(output)?;
        if permit == 0 {
            output.subscribe().block();
            continue;
        }
        let (piece, rest) = bytes.split_at_checked(permit).unwrap_or((bytes, &[]));
        output.write(piece)?;
        bytes = rest;
    }
    Ok(())
}

/// Describes a failed stream in one line, for the host's log.
pub fn describe(what: &str, error: &StreamError) -> String {
    match error {
        StreamError::Closed => format!("{what}: closed"),
        StreamError::LastOperationFailed(error) => format!("{what}: {}", error.to_debug_string()),
    }
}
