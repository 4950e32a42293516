//! The time family under the contract `concurrent`: one asynchronous call per
//! connection, any number of calls in one instance.

use sockserve_handler::{option, unix_time};
use time_protocol::TimeProtocol;

sockserve_handler::protocol!(concurrent, TimeProtocol, || {
    Ok(TimeProtocol {
        mode: option("MODE")?,
        terminator: option("TERMINATOR")?,
        clock: unix_time,
    })
});
sockserve_handler::rolling_hand_over!();
