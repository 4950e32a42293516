//! The small servers under the contract `datagram-concurrent`: a stream each way.

use protocol::DatagramProtocol;
use shell_p3::datagram::{Datagram, Handler, answer};
use small_protocol::SmallProtocol;
use small_protocol::datagrams::DatagramSmall;
use wit_bindgen::StreamReader;

struct Component;

shell_p3::datagram::export!(Component);

/// The protocol with its options set.
fn protocol() -> DatagramSmall {
    let options = SmallProtocol {
        service: shell::option_or_trap("SERVICE"),
        quote: shell::option_or_trap("QUOTE"),
        clock: shell::unix_time,
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
