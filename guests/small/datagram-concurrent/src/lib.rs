//! The small servers under the contract `datagram-concurrent`: a stream each way.

use small_protocol::SmallProtocol;
use small_protocol::datagrams::DatagramSmall;
use sockserve_handler::p3::datagram::{Datagram, Handler, answer};
use sockserve_handler::session::DatagramProtocol;
use wit_bindgen::StreamReader;

struct Component;

sockserve_handler::p3::datagram::export!(Component);
sockserve_handler::check_at_start!(protocol);

/// The protocol with its options set.
fn protocol() -> Result<DatagramSmall, String> {
    let options = SmallProtocol {
        service: sockserve_handler::option("SERVICE")?,
        quote: sockserve_handler::option("QUOTE")?,
        clock: sockserve_handler::unix_time,
    };
    Ok(options.into())
}

/// The same, where an error cannot be returned. There is none: it was checked.
fn checked() -> DatagramSmall {
    protocol().unwrap_or_else(|error| sockserve_handler::trap(&error))
}

impl Handler for Component {
    fn max_data_bytes() -> u32 {
        checked().max_bytes()
    }

    async fn serve(incoming: StreamReader<Datagram>) -> StreamReader<Datagram> {
        answer(checked(), incoming)
    }
}
