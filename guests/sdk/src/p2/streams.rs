//! What `blocking` and `evented` share.

use crate::connection_info::connection_types::Info;
use crate::session::Peer;
use std::io;
use wasi::io::streams::{OutputStream, StreamError};
use wasi::sockets::network::ErrorCode;
use wasi::sockets::tcp::TcpSocket;

mod imports {
    wit_bindgen::generate!({
        inline: "
            package sockserve:sdk;

            world connection-info {
                import sockserve:handler/connection-info@0.1.0;
            }
        ",
        path: "wit",
        with: {
            "sockserve:handler/connection-info@0.1.0": generate,
            "sockserve:handler/connection-types@0.1.0": crate::connection_info::connection_types,
            "wasi:clocks/monotonic-clock@0.2.12": wasi::clocks::monotonic_clock,
            "wasi:io/error@0.2.12": wasi::io::error,
            "wasi:io/poll@0.2.12": wasi::io::poll,
            "wasi:io/streams@0.2.12": wasi::io::streams,
            "wasi:sockets/network@0.2.12": wasi::sockets::network,
            "wasi:sockets/tcp@0.2.12": wasi::sockets::tcp,
        },
    });
}

/// The most bytes that one read or write moves. The host permits no more at once.
pub const CHUNK: usize = 64 * 1024;

/// The peer. The error is one line for the host's log.
pub fn peer(socket: &TcpSocket) -> Result<Peer, String> {
    crate::connection_info::peer(connection_info(socket))
}

/// What the host says of an accepted connection.
pub fn connection_info(socket: &TcpSocket) -> Option<Info> {
    imports::sockserve::handler::connection_info::describe(socket)
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

/// A failed stream as an error of the standard library.
pub fn io_error(what: &str, error: &StreamError) -> io::Error {
    let kind = match error {
        StreamError::Closed => io::ErrorKind::BrokenPipe,
        StreamError::LastOperationFailed(_) => io::ErrorKind::Other,
    };
    io::Error::new(kind, describe(what, error))
}

/// A refused call of a socket as an error of the standard library.
pub fn error_of(what: &str, code: ErrorCode) -> io::Error {
    let kind = match code {
        ErrorCode::AccessDenied => io::ErrorKind::PermissionDenied,
        ErrorCode::NotSupported => io::ErrorKind::Unsupported,
        ErrorCode::InvalidArgument => io::ErrorKind::InvalidInput,
        ErrorCode::InvalidState => io::ErrorKind::NotConnected,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, format!("{what}: {}", code.name()))
}

/// The options of an accepted socket, as methods of what has one in its field.
macro_rules! socket_options {
    ($field:ident) => {
        $crate::p2::socket_options! { @ $field
            /// Whether keep-alive is on (SO_KEEPALIVE). The host has it on.
            keep_alive / set_keep_alive: bool = keep_alive_enabled / set_keep_alive_enabled;
            /// After how many nanoseconds without traffic the first probe is sent
            /// (TCP_KEEPIDLE).
            keep_alive_idle_time / set_keep_alive_idle_time: u64
                = keep_alive_idle_time / set_keep_alive_idle_time;
            /// How many nanoseconds are between two probes (TCP_KEEPINTVL).
            keep_alive_interval / set_keep_alive_interval: u64
                = keep_alive_interval / set_keep_alive_interval;
            /// After how many probes without an answer the connection is lost
            /// (TCP_KEEPCNT).
            keep_alive_count / set_keep_alive_count: u32
                = keep_alive_count / set_keep_alive_count;
            /// How many routers a packet may pass (IP_TTL, IPV6_UNICAST_HOPS).
            hop_limit / set_hop_limit: u8 = hop_limit / set_hop_limit;
            /// The size of the kernel's receive buffer in bytes (SO_RCVBUF).
            receive_buffer_size / set_receive_buffer_size: u64
                = receive_buffer_size / set_receive_buffer_size;
            /// The size of the kernel's send buffer in bytes (SO_SNDBUF).
            send_buffer_size / set_send_buffer_size: u64
                = send_buffer_size / set_send_buffer_size;
        }
    };
    (@ $field:ident $($(#[$doc:meta])* $get:ident / $set:ident: $type:ty = $read:ident / $write:ident;)*) => {
        $(
            $(#[$doc])*
            pub fn $get(&self) -> std::io::Result<$type> {
                let value = self.$field.$read();
                value.map_err(|code| $crate::p2::error_of(stringify!($get), code))
            }

            $(#[$doc])*
            pub fn $set(&self, value: $type) -> std::io::Result<()> {
                let set = self.$field.$write(value);
                set.map_err(|code| $crate::p2::error_of(stringify!($set), code))
            }
        )*
    };
}

pub(crate) use socket_options;
