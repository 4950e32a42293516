//! The runner of `blocking` handlers: one connection after the other, as
//! `socketserver.TCPServer` and the dispatch `sequential` have it.
#![no_std]

extern crate alloc;

wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "sockserve:runner/blocking-runner@0.1.0",
    generate_all,
});

use exports::wasi::cli0_2_12::run::Guest;
use runner_base as _;
use sockserve::handler::blocking;
use sockserve::runner::server::{self, Opened};

struct Component;

export!(Component);

impl Guest for Component {
    fn run() -> Result<(), ()> {
        server::start("blocking")?;
        loop {
            let Opened {
                connection,
                socket,
                input,
                output,
            } = server::accept();
            let failure = blocking::handle(socket, input, output).err();
            server::close(connection, failure.as_deref());
        }
    }
}
