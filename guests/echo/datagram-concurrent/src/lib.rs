//! The echo family under the contract `datagram-concurrent`: a stream each way.

use echo_protocol::datagrams::DatagramEcho;
use sockserve_handler::p3::datagram::{Datagram, Handler, answer};
use sockserve_handler::session::DatagramProtocol as _;
use wit_bindgen::StreamReader;

struct Component;

sockserve_handler::p3::datagram::export!(Component);

/// The protocol with its options set.
fn protocol() -> DatagramEcho {
    DatagramEcho::new(
        sockserve_handler::option_or_trap("MODE"),
        sockserve_handler::option_or_trap("MAX_BYTES"),
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
