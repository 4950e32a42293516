//! The time family under the contract `evented`: one instance, and one call per batch
//! of events, which never waits.

use sockserve_handler::{option, unix_time};
use time_protocol::TimeProtocol;

sockserve_handler::protocol!(evented, TimeProtocol, || {
    Ok(TimeProtocol {
        mode: option("MODE")?,
        terminator: option("TERMINATOR")?,
        clock: unix_time,
    })
});
sockserve_handler::rolling_hand_over!();
