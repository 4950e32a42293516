//! The small servers under the contract `datagram`: one instance, and one call per batch.

use small_protocol::SmallProtocol;
use small_protocol::datagrams::DatagramSmall;
use sockserve_handler::p2::datagram::{Datagram, Handler, Server};
use std::cell::RefCell;

struct Component;

sockserve_handler::p2::datagram::export!(Component);
sockserve_handler::check_at_start!(protocol);

thread_local! {
    /// Chargen remembers its place in the pattern from batch to batch.
    static SERVER: RefCell<Server<DatagramSmall>> = RefCell::new(Server(protocol()));
}

/// The protocol with its options set.
fn protocol() -> Result<DatagramSmall, String> {
    let options = SmallProtocol {
        service: sockserve_handler::option("SERVICE")?,
        quote: sockserve_handler::option("QUOTE")?,
        clock: sockserve_handler::unix_time,
    };
    Ok(options.into())
}

impl Handler for Component {
    fn max_data_bytes() -> u32 {
        SERVER.with_borrow(Server::max_data_bytes)
    }

    fn receive(batch: Vec<Datagram>) -> Result<Vec<Datagram>, String> {
        SERVER.with_borrow_mut(|server| server.receive(batch))
    }
}
