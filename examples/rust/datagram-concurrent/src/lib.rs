//! Answers each datagram with its text in upper case, a little later. Further datagrams are
//! served meanwhile.
//!
//! Build it by `cargo build --release --target wasm32-wasip2`, and test it by `cargo test`.
// The contracts exist for WebAssembly only; the test in `tests/` runs on this machine.
#![cfg(target_family = "wasm")]

use sockserve_handler::datagram_concurrent::{Datagram, sleep};
use std::time::Duration;

async fn handle(datagram: Datagram) -> Option<Datagram> {
    sleep(Duration::from_millis(10)).await;
    let text = datagram.data().to_ascii_uppercase();
    Some(datagram.reply(text))
}

sockserve_handler::datagram_concurrent!(handle);
