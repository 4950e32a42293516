#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

#[cfg(any(
    test,
    all(
        target_family = "wasm",
        any(feature = "blocking", feature = "evented", feature = "concurrent")
    )
))]
mod ahead;
pub mod asynchat;
mod bindings;
#[cfg(feature = "command")]
pub mod command;
mod common;
#[cfg(all(
    target_family = "wasm",
    any(feature = "datagram", feature = "datagram-concurrent")
))]
mod datagrams;
pub mod options;
#[cfg(any(test, target_family = "wasm"))]
mod saved;
pub mod session;
mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

#[cfg(all(target_family = "wasm", feature = "blocking"))]
pub mod blocking;
#[cfg(all(target_family = "wasm", feature = "concurrent"))]
pub mod concurrent;
#[cfg(all(
    target_family = "wasm",
    any(feature = "blocking", feature = "evented", feature = "concurrent")
))]
pub mod connection_info;
#[cfg(all(target_family = "wasm", feature = "datagram"))]
pub mod datagram;
#[cfg(all(target_family = "wasm", feature = "datagram-concurrent"))]
pub mod datagram_concurrent;
#[cfg(all(target_family = "wasm", feature = "evented"))]
pub mod evented;
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
    any(
        feature = "blocking",
        feature = "evented",
        feature = "concurrent",
        feature = "datagram",
        feature = "datagram-concurrent"
    )
))]
pub mod life_cycle;
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
#[cfg(all(
    target_family = "wasm",
    any(feature = "blocking", feature = "evented", feature = "concurrent")
))]
mod protocol;

pub use common::{End, print_log, trap, unix_name, unix_time};
#[cfg(all(
    target_family = "wasm",
    any(feature = "blocking", feature = "evented", feature = "concurrent")
))]
pub use hand_over::{ConnectionId, HasProtocol};
pub use options::{option, option_or_trap};
pub use state::{HandOver, InstanceState};

#[cfg(all(
    target_family = "wasm",
    any(feature = "blocking", feature = "evented", feature = "datagram")
))]
pub use wasi;
#[cfg(all(
    target_family = "wasm",
    any(feature = "concurrent", feature = "datagram-concurrent")
))]
pub use {wasip3, wit_bindgen};
