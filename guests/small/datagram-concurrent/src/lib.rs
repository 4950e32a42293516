//! inetd's small servers under the contract `datagram-concurrent`: a stream each way.

use protocol::DatagramProtocol as _;
use shell_p3::datagram::{Datagram, Handler, answer};
use small_protocol::SmallProtocol;
use wit_bindgen::StreamReader;

struct Component;

shell_p3::datagram::export!(Component);

/// The protocol with its options set.
fn protocol() -> SmallProtocol {
    SmallProtocol::new(
        shell::option_or_trap("SERVICE"),
        shell::option_or_trap("QUOTE"),
        shell::unix_time,
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
