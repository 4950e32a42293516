//! The time family under the contract `datagram-concurrent`: a stream each way.

use sockserve_handler::p3::datagram::{Datagram, Handler, answer};
use sockserve_handler::session::DatagramProtocol as _;
use time_protocol::datagrams::DatagramTime;
use wit_bindgen::StreamReader;

struct Component;

sockserve_handler::p3::datagram::export!(Component);

/// The protocol with its options set.
fn protocol() -> DatagramTime {
    DatagramTime::new(
        sockserve_handler::option_or_trap("MODE"),
        sockserve_handler::unix_time,
    )
}

impl Handler for Component {
    fn max_data_bytes() -> u32 {
        protocol().max_bytes()
    }

    async fn serve(incoming: StreamReader<Datagram>) -> StreamReader<Datagram> {
        answer(protocol(), incoming)
    }
}
