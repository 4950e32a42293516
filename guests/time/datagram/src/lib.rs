//! The time family under the contract `datagram`: one instance, and one call per batch.

use sockserve_handler::p2::datagram::{Datagram, Handler, Server};
use std::cell::RefCell;
use time_protocol::datagrams::DatagramTime;

struct Component;

sockserve_handler::p2::datagram::export!(Component);
sockserve_handler::check_at_start!(protocol);

thread_local! {
    static SERVER: RefCell<Server<DatagramTime>> = RefCell::new(Server(protocol()));
}

/// The protocol with its options set.
fn protocol() -> Result<DatagramTime, String> {
    Ok(DatagramTime::new(
        sockserve_handler::option("MODE")?,
        sockserve_handler::unix_time,
    ))
}

impl Handler for Component {
    fn max_data_bytes() -> u32 {
        SERVER.with_borrow(Server::max_data_bytes)
    }

    fn receive(batch: Vec<Datagram>) -> Result<Vec<Datagram>, String> {
        SERVER.with_borrow_mut(|server| server.receive(batch))
    }
}
