//! The echo family under the contract `blocking`: one call per connection.

use echo_protocol::{EchoProtocol, Mode};
use sockserve_handler::p2::blocking::{self, Draining, deliver, finish, serve, serve_by};
use sockserve_handler::p2::{CHUNK, describe};
use sockserve_handler::{End, HasProtocol};
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::TcpSocket;

struct Component;

sockserve_handler::p2::blocking::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::check_at_start!(<Component as HasProtocol>::protocol);

impl HasProtocol for Component {
    type Protocol = EchoProtocol;

    fn protocol() -> Result<EchoProtocol, String> {
        let mode = sockserve_handler::option("MODE")?;
        Ok(EchoProtocol { mode })
    }
}

impl blocking::Handler for Component {
    fn handle(socket: TcpSocket, input: InputStream, output: OutputStream) -> Result<(), String> {
        let protocol = Self::protocol()?;
        if protocol.mode != Mode::Stream {
            return serve(&protocol, &socket, &input, &output);
        }
        serve_by(&protocol, &socket, |talk, draining| {
            // Output that an earlier version did not write.
            if deliver(talk, draining, &output)? == End::HandOver {
                return Ok(End::HandOver);
            }
            if talk.is_finished() {
                return finish(draining, &output);
            }
            echo(draining, &input, &output)
        })
    }
}

/// Echoes until the peer half-closes.
///
/// The host moves the bytes from stream to stream. They never enter the guest's memory,
/// so there are none to hand over.
fn echo(
    draining: &mut Draining,
    input: &InputStream,
    output: &OutputStream,
) -> Result<End, String> {
    loop {
        if draining.check_sometimes() {
            return Ok(End::HandOver);
        }
        match output.blocking_splice(input, CHUNK as u64) {
            Ok(0) if draining.is_ready() => return Ok(End::HandOver),
            Ok(_) => {}
            // End of file, or the peer has gone. Nothing is left to do in both cases.
            Err(StreamError::Closed) => break,
            Err(error) => return Err(describe("echo", &error)),
        }
    }
    match output.blocking_flush() {
        Ok(()) if draining.is_ready() => Ok(End::HandOver),
        Ok(()) | Err(StreamError::Closed) => Ok(End::Done),
        Err(error) => Err(describe("write", &error)),
    }
}
