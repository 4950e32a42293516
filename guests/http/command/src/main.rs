//! The HTTP server as a program, for the contract `command`.

use http_files::Directory;
use http_protocol::HttpProtocol;
use sockserve_handler::{option, unix_time};
use std::process::ExitCode;

/// The protocol with its options set.
fn protocol() -> Result<HttpProtocol<Directory>, String> {
    Ok(HttpProtocol {
        store: option::<Directory>("ROOT")?.check("ROOT")?,
        clock: unix_time,
    })
}

sockserve_handler::check_at_start!(protocol);

fn main() -> ExitCode {
    sockserve_handler::command::main(protocol)
}
