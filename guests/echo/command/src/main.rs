//! The echo family as a program, for the contract `command`.

use echo_protocol::EchoProtocol;
use shell_command::option;
use std::process::ExitCode;

fn main() -> ExitCode {
    shell_command::main(|| {
        let mode = option("MODE")?;
        Ok(EchoProtocol { mode })
    })
}
