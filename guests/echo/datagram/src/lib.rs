//! The echo family under the contract `datagram`: one instance, and one call per batch.

use echo_protocol::datagrams::DatagramEcho;
use protocol::DatagramProtocol as _;
use shell_p2::datagram::{Datagram, Handler, answer};
use std::cell::RefCell;

struct Component;

shell_p2::datagram::export!(Component);

thread_local! {
    /// The protocol with its options set, or which of them is wrong.
    static PROTOCOL: RefCell<Result<DatagramEcho, String>> = RefCell::new(protocol());
}

fn protocol() -> Result<DatagramEcho, String> {
    Ok(DatagramEcho::new(
        shell::option("MODE")?,
        shell::option("MAX_BYTES")?,
    ))
}

impl Handler for Component {
    fn max_data_bytes() -> u32 {
        PROTOCOL.with_borrow(|protocol| {
            let protocol = protocol.as_ref();
            // A wrong option is told to the log when there is a datagram.
            protocol.map_or(u32::MAX, |protocol| protocol.max_bytes())
        })
    }

    fn receive(batch: Vec<Datagram>) -> Result<Vec<Datagram>, String> {
        PROTOCOL.with_borrow_mut(|protocol| match protocol {
            Ok(protocol) => Ok(answer(protocol, batch)),
            Err(error) => Err(error.clone()),
        })
    }
}
