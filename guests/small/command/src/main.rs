//! The small servers as a program, for the contract `command`.

use small_protocol::SmallProtocol;
use sockserve_handler::{option, unix_time};
use std::process::ExitCode;

fn main() -> ExitCode {
    sockserve_handler::command::main(|| {
        Ok(SmallProtocol {
            service: option("SERVICE")?,
            quote: option("QUOTE")?,
            clock: unix_time,
        })
    })
}
