//! Answers each line with its number. One value serves all connections, and never waits.
//!
//! Build it by `cargo build --release --target wasm32-wasip2`, and test it by `cargo test`.
// The contracts exist for WebAssembly only; the test in `tests/` runs on this machine.
#![cfg(target_family = "wasm")]

use sockserve_handler::evented::{Connection, Handler};
use std::io::{self, Write as _};

#[derive(Default)]
struct Counter;

impl Handler for Counter {
    /// What is known of one connection: how many lines it has sent.
    type Data = u64;

    fn readable(&mut self, connection: &mut Connection<'_, u64>) -> io::Result<()> {
        while let Some(line) = connection.next_line()? {
            *connection.data() += 1;
            let count = *connection.data();
            writeln!(connection, "{count} {line}")?;
        }
        Ok(())
    }
}

sockserve_handler::evented!(Counter);
