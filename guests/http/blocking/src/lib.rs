//! The HTTP server under the contract `blocking`: one call per connection.

use http_files::Directory;
use http_protocol::HttpProtocol;
use sockserve_handler::HasProtocol;
use sockserve_handler::p2::blocking::{Handler, serve};
use wasi::io::streams::{InputStream, OutputStream};
use wasi::sockets::tcp::TcpSocket;

struct Component;

sockserve_handler::p2::blocking::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::check_at_start!(<Component as HasProtocol>::protocol);

impl HasProtocol for Component {
    type Protocol = HttpProtocol<Directory>;

    fn protocol() -> Result<HttpProtocol<Directory>, String> {
        Ok(HttpProtocol {
            store: sockserve_handler::option::<Directory>("ROOT")?.check("ROOT")?,
            clock: sockserve_handler::unix_time,
        })
    }
}

impl Handler for Component {
    fn handle(socket: TcpSocket, input: InputStream, output: OutputStream) -> Result<(), String> {
        serve(&Self::protocol()?, &socket, &input, &output)
    }
}
