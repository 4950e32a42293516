//! Answers each line with its number. One call serves a connection, and may wait.
//!
//! Build it by `cargo build --release --target wasm32-wasip2`, and test it by `cargo test`.
// The contracts exist for WebAssembly only; the test in `tests/` runs on this machine.
#![cfg(target_family = "wasm")]

use sockserve_handler::blocking::Connection;
use std::io::{self, Write as _};

fn handle(connection: &mut Connection) -> io::Result<()> {
    let mut count = 0;
    while let Some(line) = connection.next_line()? {
        count += 1;
        writeln!(connection, "{count} {line}")?;
    }
    Ok(())
}

sockserve_handler::blocking!(handle);
