//! The time family under the contract `concurrent`: one asynchronous call per
//! connection, any number of calls in one instance.

use shell::HasProtocol;
use shell_p3::{Handler, serve};
use time_protocol::TimeProtocol;
use wasip3::sockets::types::TcpSocket;

struct Component;

shell_p3::export!(Component);
shell::hand_over::export!(Component);

impl HasProtocol for Component {
    type Protocol = TimeProtocol;

    fn protocol() -> Result<TimeProtocol, String> {
        Ok(TimeProtocol {
            mode: shell::option("MODE")?,
            terminator: shell::option("TERMINATOR")?,
            clock: shell::unix_time,
        })
    }
}

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        serve(&Self::protocol()?, &socket).await
    }
}
