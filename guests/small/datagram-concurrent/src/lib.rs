//! The small servers under the contract `datagram-concurrent`: a stream each way.

use small_protocol::SmallProtocol;
use small_protocol::datagrams::DatagramSmall;
use sockserve_handler::p3::datagram::{Datagram, Handler, answer};
use sockserve_handler::session::DatagramProtocol;
use wit_bindgen::StreamReader;

struct Component;

sockserve_handler::p3::datagram::export!(Component);

/// The protocol with its options set.
fn protocol() -> DatagramSmall {
    let options = SmallProtocol {
        service: sockserve_handler::option_or_trap("SERVICE"),
        quote: sockserve_handler::option_or_trap("QUOTE"),
        clock: sockserve_handler::unix_time,
    };
    options.into()
}

impl Handler for Component {
    fn max_data_bytes() -> u32 {
        protocol().max_bytes()
    }

    async fn serve(incoming: StreamReader<Datagram>) -> StreamReader<Datagram> {
        answer(protocol(), incoming)
    }
}
