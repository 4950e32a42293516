//! The time family under the contract `blocking`: one call per connection.

use sockserve_handler::HasProtocol;
use sockserve_handler::p2::blocking::{Handler, serve};
use time_protocol::TimeProtocol;
use wasi::io::streams::{InputStream, OutputStream};
use wasi::sockets::tcp::TcpSocket;

struct Component;

sockserve_handler::p2::blocking::export!(Component);
sockserve_handler::hand_over::export!(Component);

impl HasProtocol for Component {
    type Protocol = TimeProtocol;

    fn protocol() -> Result<TimeProtocol, String> {
        Ok(TimeProtocol {
            mode: sockserve_handler::option("MODE")?,
            terminator: sockserve_handler::option("TERMINATOR")?,
            clock: sockserve_handler::unix_time,
        })
    }
}

impl Handler for Component {
    fn handle(socket: TcpSocket, input: InputStream, output: OutputStream) -> Result<(), String> {
        serve(&Self::protocol()?, &socket, &input, &output)
    }
}
