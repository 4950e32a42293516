//! The host's side of the contracts, generated from `wit/`.
//!
//! WASI's own types are wasmtime-wasi's, so that a resource means the same in
//! a contract and in `wasi:sockets`.

#![allow(
    missing_docs,
    clippy::missing_docs_in_private_items,
    reason = "generated; the items are documented in wit/"
)]

pub(crate) mod blocking {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sockserve:handler/blocking-handler",
        exports: { default: async },
        with: { "wasi": wasmtime_wasi::p2::bindings },
    });
}

pub(crate) mod evented {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sockserve:handler/evented-handler",
        exports: { default: async },
        with: { "wasi": wasmtime_wasi::p2::bindings },
    });
}

pub(crate) mod concurrent {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sockserve:handler/concurrent-handler",
        exports: { default: async | store },
        with: { "wasi": wasmtime_wasi::p3::bindings },
    });
}
