//! The upper family under the contract `concurrent`: one asynchronous call per
//! connection, any number of calls in one instance.

use upper_protocol::UpperProtocol;

sockserve_handler::protocol!(concurrent, UpperProtocol, || Ok(UpperProtocol));
sockserve_handler::rolling_hand_over!();
