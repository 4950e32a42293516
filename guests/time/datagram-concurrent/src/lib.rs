//! The time family under the contract `datagram-concurrent`: a stream each way.

use protocol::DatagramProtocol as _;
use shell_p3::datagram::{Datagram, Handler, answer};
use time_protocol::datagrams::DatagramTime;
use wit_bindgen::StreamReader;

struct Component;

shell_p3::datagram::export!(Component);

/// The protocol with its options set.
fn protocol() -> DatagramTime {
    DatagramTime::new(shell::option_or_trap("MODE"), shell::unix_time)
}

impl Handler for Component {
    fn max_data_bytes() -> u32 {
        protocol().max_bytes()
    }

    async fn serve(incoming: StreamReader<Datagram>) -> StreamReader<Datagram> {
        answer(protocol(), incoming)
    }
}
