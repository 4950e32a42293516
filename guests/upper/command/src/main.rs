//! The upper family as a program, for the contract `command`.

use std::process::ExitCode;
use upper_protocol::UpperProtocol;

fn main() -> ExitCode {
    sockserve_handler::command::main(|| Ok(UpperProtocol))
}
