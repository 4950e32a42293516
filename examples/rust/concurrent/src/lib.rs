//! Answers each line with its number. One asynchronous call serves a connection, and many run
//! at once in one instance.
//!
//! Build it by `cargo build --release --target wasm32-wasip2`, and test it by `cargo test`.
// The contracts exist for WebAssembly only; the test in `tests/` runs on this machine.
#![cfg(target_family = "wasm")]

use sockserve_handler::concurrent::Connection;
use std::io;

async fn handle(connection: &mut Connection) -> io::Result<()> {
    let mut count = 0;
    while let Some(line) = connection.next_line().await? {
        count += 1;
        writeln!(connection, "{count} {line}")?;
    }
    Ok(())
}

sockserve_handler::concurrent!(handle);
