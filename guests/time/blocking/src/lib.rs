//! The time family under the contract `blocking`: one call for one connection.

use shell_p2::blocking::{Handler, serve};
use time_protocol::Time;
use wasi::io::streams::{InputStream, OutputStream};
use wasi::sockets::tcp::TcpSocket;

struct Component;

shell_p2::blocking::export!(Component);

impl Handler for Component {
    fn handle(_: TcpSocket, input: InputStream, output: OutputStream) -> Result<(), String> {
        let mode = shell::option("MODE")?;
        let terminator = shell::option("TERMINATOR")?;
        let mut session = Time::new(mode, &terminator, shell::unix_time);
        serve(&mut session, &input, &output)
    }
}
