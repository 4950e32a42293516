//! The time family as a program, for the contract `command`.

use shell_command::{option, unix_time};
use std::process::ExitCode;
use time_protocol::TimeProtocol;

fn main() -> ExitCode {
    shell_command::main(|| {
        Ok(TimeProtocol {
            mode: option("MODE")?,
            terminator: option("TERMINATOR")?,
            clock: unix_time,
        })
    })
}
