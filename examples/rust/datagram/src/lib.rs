//! Answers each datagram with its text in upper case.
//!
//! Build it by `cargo build --release --target wasm32-wasip2`, and test it by `cargo test`.
// The contracts exist for WebAssembly only; the test in `tests/` runs on this machine.
#![cfg(target_family = "wasm")]

use sockserve_handler::datagram::Datagram;

fn handle(datagram: Datagram) -> Option<Datagram> {
    let text = datagram.data().to_ascii_uppercase();
    Some(datagram.reply(text))
}

sockserve_handler::datagram!(handle);
