//! The sockets of a composed command, for handlers on WASI 0.2. `../wit/server.wit`
//! says why a handler's streams come from here.
//!
//! - [`command`]: its arguments, and what it prints.
//! - [`server`]: the listeners, and the loop over all that can become ready.
//! - [`connection`]: a connection, from its accept to its end.
//! - [`streams`], [`tcp`]: what the handler sees of them.
//! - [`stdio`], `files`: what else has streams, passed on as it is. Files make the
//!   component a third larger, so they are in the one that `../sockets-files` builds only.
#![no_std]

extern crate alloc;

mod command;
mod connection;
mod draining;
#[cfg(feature = "files")]
mod files;
mod listener;
mod server;
mod stdio;
mod streams;
mod tcp;

#[cfg(not(feature = "files"))]
wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "sockserve:runner/sockets@0.1.0",
    generate_all,
    // What passes through is of one type.
    merge_structurally_equal_types: true,
});

#[cfg(feature = "files")]
wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "sockserve:runner/sockets-files@0.1.0",
    generate_all,
    merge_structurally_equal_types: true,
});

struct Component;

export!(Component);
