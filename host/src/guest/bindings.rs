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

/// What a component exports beside its contract if it hands connections over.
pub(crate) mod hand_over {
    pub(crate) mod p2 {
        wasmtime::component::bindgen!({
            path: "../wit",
            inline: "
                package sockserve:host;
                world hand-over { export sockserve:handler/hand-over@0.1.0; }
            ",
            world: "sockserve:host/hand-over",
            exports: { default: async },
        });
    }

    pub(crate) mod p3 {
        wasmtime::component::bindgen!({
            path: "../wit",
            inline: "
                package sockserve:host;
                world hand-over { export sockserve:handler/hand-over@0.1.0; }
            ",
            world: "sockserve:host/hand-over",
            exports: { default: async | store },
        });
    }
}

/// What tells it to.
pub(crate) mod draining {
    pub(crate) mod p2 {
        wasmtime::component::bindgen!({
            path: "../wit",
            inline: "
                package sockserve:host;
                world draining { import sockserve:handler/blocking-draining@0.1.0; }
            ",
            world: "sockserve:host/draining",
            imports: { default: trappable },
            require_store_data_send: true,
            with: { "wasi": wasmtime_wasi::p2::bindings },
        });
    }

    pub(crate) mod p3 {
        wasmtime::component::bindgen!({
            path: "../wit",
            inline: "
                package sockserve:host;
                world draining { import sockserve:handler/concurrent-draining@0.1.0; }
            ",
            world: "sockserve:host/draining",
            imports: { default: trappable },
            with: { "wasi": wasmtime_wasi::p3::bindings },
        });
    }
}
