//! The small servers as a program, for the contract `command`.

use shell_command::{option, unix_time};
use small_protocol::SmallProtocol;
use std::process::ExitCode;

fn main() -> ExitCode {
    shell_command::main(|| {
        Ok(SmallProtocol {
            service: option("SERVICE")?,
            quote: option("QUOTE")?,
            clock: unix_time,
        })
    })
}
