//! The time family under the contract `concurrent`: one asynchronous call for one
//! connection, any number of them in an instance.

use shell_p3::{Handler, serve};
use time_protocol::Time;
use wasip3::sockets::types::TcpSocket;

struct Component;

shell_p3::export!(Component);

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        let mode = shell::option("MODE")?;
        let terminator = shell::option("TERMINATOR")?;
        let mut session = Time::new(mode, &terminator, shell::unix_time);
        serve(&mut session, &socket).await
    }
}
