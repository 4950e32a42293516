//! The echo family under the contract `datagram`: one instance, and one call per batch.

use echo_protocol::datagrams::DatagramEcho;
use shell_p2::datagram::{Datagram, Handler, answer};

struct Component;

shell_p2::datagram::export!(Component);

/// The protocol with its options set.
fn protocol() -> Result<DatagramEcho, String> {
    Ok(DatagramEcho::new(
        shell::option("MODE")?,
        shell::option("MAX_BYTES")?,
    ))
}

impl Handler for Component {
    fn max_data_bytes() -> u32 {
        protocol().map_or(u32::MAX, |protocol| protocol.max_bytes())
    }

    fn receive(batch: Vec<Datagram>) -> Result<Vec<Datagram>, String> {
        Ok(answer(&mut protocol()?, batch))
    }
}
