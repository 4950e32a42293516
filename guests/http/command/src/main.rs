//! The HTTP server as a program, for the contract `command`.

use http_files::Directory;
use http_protocol::HttpProtocol;
use sockserve_handler::{option, unix_time};
use std::process::ExitCode;

fn main() -> ExitCode {
    sockserve_handler::command::main(|| {
        Ok(HttpProtocol {
            store: option::<Directory>("ROOT")?.check("ROOT")?,
            clock: unix_time,
        })
    })
}
