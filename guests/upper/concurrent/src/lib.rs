//! The upper family under the contract `concurrent`: one asynchronous call per
//! connection, any number of calls in one instance.

use sockserve_handler::HasProtocol;
use sockserve_handler::p3::concurrent::{Handler, serve};
use upper_protocol::UpperProtocol;
use wasip3::sockets::types::TcpSocket;

struct Component;

sockserve_handler::p3::concurrent::export!(Component);
sockserve_handler::hand_over::export!(Component);

impl HasProtocol for Component {
    type Protocol = UpperProtocol;

    fn protocol() -> Result<UpperProtocol, String> {
        Ok(UpperProtocol)
    }
}

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        serve(&Self::protocol()?, &socket).await
    }
}
