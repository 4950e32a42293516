//! The upper family under the contract `evented`: one instance, and one call per batch
//! of events, which never waits.

use upper_protocol::UpperProtocol;

sockserve_handler::protocol!(evented, UpperProtocol, || Ok(UpperProtocol));
sockserve_handler::rolling_hand_over!();
