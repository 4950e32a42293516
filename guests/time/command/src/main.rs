//! The time family as a program, for the contract `command`.

use sockserve_handler::{option, unix_time};
use std::process::ExitCode;
use time_protocol::TimeProtocol;

fn main() -> ExitCode {
    sockserve_handler::command::main(|| {
        Ok(TimeProtocol {
            mode: option("MODE")?,
            terminator: option("TERMINATOR")?,
            clock: unix_time,
        })
    })
}
