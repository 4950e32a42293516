//! The time family under the contract `blocking`: one call per connection.

use sockserve_handler::{option, unix_time};
use time_protocol::TimeProtocol;

sockserve_handler::protocol!(blocking, TimeProtocol, || {
    Ok(TimeProtocol {
        mode: option("MODE")?,
        terminator: option("TERMINATOR")?,
        clock: unix_time,
    })
});
