//! The runner of `concurrent` handlers: all connections at once.
#![no_std]

extern crate alloc;

wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "sockserve:runner/concurrent-runner@0.1.0",
    generate_all,
});

use exports::wasi::cli0_3_0::run::Guest;
use runner_base as _;
use sockserve::handler::concurrent;
use sockserve::runner::concurrent_server::{self as server, Opened};

struct Component;

export!(Component);

impl Guest for Component {
    async fn run() -> Result<(), ()> {
        let listeners = server::start("concurrent")?;
        for listener in 1..listeners {
            wit_bindgen::spawn_local(listen(listener));
        }
        // The end of this is the end of the command.
        listen(0).await;
        Err(())
    }
}

async fn listen(listener: u32) {
    while let Some(opened) = server::accept(listener).await {
        wit_bindgen::spawn_local(server::carry(opened.connection));
        wit_bindgen::spawn_local(handle(opened));
    }
}

async fn handle(Opened { connection, socket }: Opened) {
    let failure = concurrent::handle(socket).await.err();
    server::handled(connection, failure.as_deref());
}
