//! The small servers as a program, for the contract `command`.

use small_protocol::SmallProtocol;
use sockserve_handler::{option, unix_time};
use std::process::ExitCode;

/// The protocol with its options set.
fn protocol() -> Result<SmallProtocol, String> {
    Ok(SmallProtocol {
        service: option("SERVICE")?,
        quote: option("QUOTE")?,
        clock: unix_time,
    })
}

sockserve_handler::check_at_start!(protocol);

fn main() -> ExitCode {
    sockserve_handler::command::main(protocol)
}
