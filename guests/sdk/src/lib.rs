//! Handlers for `sockserve`.
//!
//! The contracts are there when the target is WebAssembly. Elsewhere only what has no I/O
//! is: [`session`], [`options`], and what a program needs.
#![warn(missing_docs)]

mod bindings;
#[cfg(feature = "command")]
pub mod command;
mod common;
pub mod options;
pub mod session;

#[cfg(all(
    target_family = "wasm",
    any(feature = "blocking", feature = "evented", feature = "concurrent")
))]
pub mod connection_info;
#[cfg(all(
    target_family = "wasm",
    any(feature = "blocking", feature = "evented", feature = "concurrent")
))]
pub mod hand_over;
#[cfg(all(
    target_family = "wasm",
    any(
        feature = "evented",
        feature = "concurrent",
        feature = "datagram",
        feature = "datagram-concurrent"
    )
))]
pub mod instance_state;
#[cfg(all(
    target_family = "wasm",
    any(feature = "blocking", feature = "evented", feature = "datagram")
))]
pub mod p2;
#[cfg(all(
    target_family = "wasm",
    any(feature = "concurrent", feature = "datagram-concurrent")
))]
pub mod p3;

pub use common::{End, print_log, trap, unix_name, unix_time};
#[cfg(all(
    target_family = "wasm",
    any(feature = "blocking", feature = "evented", feature = "concurrent")
))]
pub use hand_over::{ConnectionId, HasProtocol};
pub use options::{option, option_or_trap};
