//! The echo family as a program, for the contract `command`.

use echo_protocol::EchoProtocol;
use std::process::ExitCode;

/// The protocol with its options set.
fn protocol() -> Result<EchoProtocol, String> {
    let mode = sockserve_handler::option("MODE")?;
    Ok(EchoProtocol { mode })
}

sockserve_handler::check_at_start!(protocol);

fn main() -> ExitCode {
    sockserve_handler::command::main(protocol)
}
