//! The echo family as a program, for the contract `command`.

use echo_protocol::EchoProtocol;
use sockserve_handler::option;
use std::process::ExitCode;

fn main() -> ExitCode {
    sockserve_handler::command::main(|| {
        let mode = option("MODE")?;
        Ok(EchoProtocol { mode })
    })
}
