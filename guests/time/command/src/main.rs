//! The time family as a program, for the contract `command`.

use sockserve_handler::{option, unix_time};
use std::process::ExitCode;
use time_protocol::TimeProtocol;

/// The protocol with its options set.
fn protocol() -> Result<TimeProtocol, String> {
    Ok(TimeProtocol {
        mode: option("MODE")?,
        terminator: option("TERMINATOR")?,
        clock: unix_time,
    })
}

sockserve_handler::check_at_start!(protocol);

fn main() -> ExitCode {
    sockserve_handler::command::main(protocol)
}
