//! The time family under the contract `datagram-concurrent`: a stream each way.

use sockserve_handler::p3::datagram::{Datagram, Handler, answer};
use sockserve_handler::session::DatagramProtocol as _;
use time_protocol::datagrams::DatagramTime;
use wit_bindgen::StreamReader;

struct Component;

sockserve_handler::p3::datagram::export!(Component);
sockserve_handler::check_at_start!(protocol);

/// The protocol with its options set.
fn protocol() -> Result<DatagramTime, String> {
    Ok(DatagramTime::new(
        sockserve_handler::option("MODE")?,
        sockserve_handler::unix_time,
    ))
}

/// The same, where an error cannot be returned. There is none: it was checked.
fn checked() -> DatagramTime {
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
