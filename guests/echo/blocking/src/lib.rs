//! The echo family under the contract `blocking`: one call for one connection.

use echo_protocol::{Echo, Mode};
use shell_p2::{CHUNK, blocking, describe, peer};
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::TcpSocket;

struct Component;

shell_p2::blocking::export!(Component);

impl blocking::Handler for Component {
    fn handle(socket: TcpSocket, input: InputStream, output: OutputStream) -> Result<(), String> {
        match shell::option("MODE")? {
            Mode::Stream => echo(&input, &output),
            mode => {
                let mut session = Echo::new(mode, peer(&socket)?.ip());
                blocking::serve(&mut session, &input, &output)
            }
        }
    }
}

/// Echoes until the peer half-closes. The bytes go from stream to stream on the
/// host's side and never enter the guest's memory.
fn echo(input: &InputStream, output: &OutputStream) -> Result<(), String> {
    loop {
        match output.blocking_splice(input, CHUNK as u64) {
            Ok(_) => {}
            // End of file, or the peer has gone; either way nothing is left to do.
            Err(StreamError::Closed) => break,
            Err(error) => return Err(describe("echo", &error)),
        }
    }
    match output.blocking_flush() {
        Ok(()) | Err(StreamError::Closed) => Ok(()),
        Err(error) => Err(describe("write", &error)),
    }
}
