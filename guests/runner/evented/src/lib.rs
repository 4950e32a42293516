//! The runner of `evented` handlers: all connections at once, by `wasi:io/poll`.
#![no_std]

extern crate alloc;

wit_bindgen::generate!({
    path: ["../../../wit", "../wit"],
    world: "sockserve:runner/evented-runner@0.1.0",
    generate_all,
});

use alloc::vec::Vec;
use exports::wasi::cli0_2_12::run::Guest;
use runner_base as _;
use sockserve::handler::evented::{self, Change, Event, Interest, Readiness, Ready};
use sockserve::runner::server;

struct Component;

export!(Component);

impl Guest for Component {
    fn run() -> Result<(), ()> {
        server::start("evented")?;
        loop {
            let events: Vec<Event> = server::wait().into_iter().map(Event::from).collect();
            evented::turn(events).into_iter().for_each(apply);
        }
    }
}

impl From<server::Event> for Event {
    fn from(event: server::Event) -> Self {
        match event {
            server::Event::Opened(server::Opened {
                connection,
                socket,
                input,
                output,
            }) => Self::Opened(evented::Opened {
                connection,
                socket,
                input,
                output,
            }),
            server::Event::Ready(server::Ready {
                connection,
                readiness,
            }) => Self::Ready(Ready {
                connection,
                readiness: Readiness::from_bits_truncate(readiness.bits()),
            }),
            server::Event::Tick => Self::Tick,
        }
    }
}

fn apply(change: Change) {
    match change {
        Change::Interest(change) => {
            server::set_interest(change.connection, interest(change.interest));
        }
        Change::Close(connection) => server::close(connection, None),
        Change::Fail(failure) => server::close(failure.connection, Some(&failure.reason)),
        Change::TickAfter(nanoseconds) => server::tick_after(nanoseconds),
    }
}

/// Both have `readable` and `writable`, in this order.
fn interest(interest: Interest) -> server::Readiness {
    server::Readiness::from_bits_truncate(interest.bits())
}
