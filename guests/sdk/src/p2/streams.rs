//! What `blocking` and `evented` share.

use crate::connection_info::connection_types::Info;
use crate::session::Peer;
use wasi::io::streams::{OutputStream, StreamError};
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
