//! The small servers under the contract `datagram`: one instance, and one call per batch.

use protocol::DatagramProtocol;
use shell_p2::datagram::{Datagram, Handler, answer};
use small_protocol::SmallProtocol;
use small_protocol::datagrams::DatagramSmall;
use std::cell::RefCell;

struct Component;

shell_p2::datagram::export!(Component);

thread_local! {
    /// Chargen remembers its place in the pattern from batch to batch.
    static SERVED: RefCell<Result<DatagramSmall, String>> = RefCell::new(protocol());
}

/// The protocol with its options set.
fn protocol() -> Result<DatagramSmall, String> {
    let options = SmallProtocol {
        service: shell::option("SERVICE")?,
        quote: shell::option("QUOTE")?,
        clock: shell::unix_time,
    };
    Ok(options.into())
}

impl Handler for Component {
    fn max_data_bytes() -> u32 {
        protocol().map_or(u32::MAX, |protocol| protocol.max_bytes())
    }

    fn receive(batch: Vec<Datagram>) -> Result<Vec<Datagram>, String> {
        SERVED.with_borrow_mut(|protocol| match protocol {
            Ok(protocol) => Ok(answer(protocol, batch)),
            Err(error) => Err(error.clone()),
        })
    }
}
