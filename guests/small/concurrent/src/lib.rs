//! inetd's small servers under the contract `concurrent`: one asynchronous call per
//! connection, any number of calls in one instance.

use shell::HasProtocol;
use shell_p3::{Handler, serve};
use small_protocol::SmallProtocol;
use wasip3::sockets::types::TcpSocket;

struct Component;

shell_p3::export!(Component);
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
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        serve(&Self::protocol()?, &socket).await
    }
}
