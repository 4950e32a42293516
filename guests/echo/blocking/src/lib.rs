//! The echo family under the contract `blocking`: one call for one connection.

use echo_protocol::{EchoProtocol, Mode};
use shell::{End, Speaks};
use shell_p2::blocking::{self, Draining, deliver, finish, serve, serve_by};
use shell_p2::{CHUNK, describe};
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::TcpSocket;

struct Component;

shell_p2::blocking::export!(Component);
shell::hand_over::export!(Component);

impl Speaks for Component {
    type Protocol = EchoProtocol;

    fn protocol() -> Result<EchoProtocol, String> {
        let mode = shell::option("MODE")?;
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
            // What a version before has left to be said.
            if deliver(talk, draining, &output)? == End::Told {
                return Ok(End::Told);
            }
            if talk.is_finished() {
                return finish(draining, &output);
            }
            echo(draining, &input, &output)
        })
    }
}

/// Echoes until the peer half-closes. The bytes go from stream to stream on the
/// host's side and never enter the guest's memory, so there is nothing to hand over.
fn echo(
    draining: &mut Draining,
    input: &InputStream,
    output: &OutputStream,
) -> Result<End, String> {
    loop {
        if draining.is_due() {
            return Ok(End::Told);
        }
        match output.blocking_splice(input, CHUNK as u64) {
            Ok(0) if draining.is_told() => return Ok(End::Told),
            Ok(_) => {}
            // End of file, or the peer has gone; either way nothing is left to do.
            Err(StreamError::Closed) => break,
            Err(error) => return Err(describe("echo", &error)),
        }
    }
    match output.blocking_flush() {
        Ok(()) if draining.is_told() => Ok(End::Told),
        Ok(()) | Err(StreamError::Closed) => Ok(End::Done),
        Err(error) => Err(describe("write", &error)),
    }
}
