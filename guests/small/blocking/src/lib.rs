//! inetd's small servers under the contract `blocking`: one call per connection.

use shell::HasProtocol;
use shell_p2::blocking::{Handler, serve};
use small_protocol::SmallProtocol;
use wasi::io::streams::{InputStream, OutputStream};
use wasi::sockets::tcp::TcpSocket;

struct Component;

shell_p2::blocking::export!(Component);
shell::hand_over::export!(Component);

impl HasProtocol for Component {
    type Protocol = SmallProtocol;

    fn protocol() -> Result<SmallProtocol, String> {
        Ok(SmallProtocol::new(
            shell::option("SERVICE")?,
            shell::option("QUOTE")?,
            shell::unix_time,
        ))
    }
}

impl Handler for Component {
    fn handle(socket: TcpSocket, input: InputStream, output: OutputStream) -> Result<(), String> {
        serve(&Self::protocol()?, &socket, &input, &output)
    }
}
