//! The contract `evented`: one value serves all connections, and never waits.
//!
//! ```no_run
//! use sockserve_handler::evented::{Connection, Handler};
//! use std::io::{self, Write as _};
//!
//! #[derive(Default)]
//! struct Counter;
//!
//! impl Handler for Counter {
//!     type Data = u64;
//!
//!     fn readable(&mut self, connection: &mut Connection<'_, u64>) -> io::Result<()> {
//!         while let Some(line) = connection.next_line()? {
//!             *connection.data() += 1;
//!             let count = *connection.data();
//!             writeln!(connection, "{count} {line}")?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! sockserve_handler::evented!(Counter);
//! # fn main() {}
//! ```
//!
//! The value is the state of the instance, and [`Handler::Data`] is what it knows of one
//! connection. Buffers and interest are kept here: input is read while less than 64 KiB of
//! output waits, and a connection closes after the end of file, when all output is sent.

//!
//! # Hand-over
//! With `hand_over` connections move to another version with their data, which is a
//! [`HandOver`](crate::HandOver). With `instance_state` the value itself does.
//!
//! ```no_run
//! # use sockserve_handler::evented::{Connection, Handler};
//! # use sockserve_handler::{HandOver, InstanceState};
//! # use std::io::{self, Write as _};
//! # #[derive(Default)]
//! # struct Lines(u64);
//! # impl HandOver for Lines {
//! #     type State = u64;
//! #     const TAG: &'static str = "lines/1";
//! #     fn save(&self) -> u64 { self.0 }
//! #     fn resume(state: u64) -> Self { Self(state) }
//! # }
//! #[derive(Default)]
//! struct Counter {
//!     total: u64,
//! }
//!
//! impl InstanceState for Counter {
//!     type State = u64;
//!     const TAG: &'static str = "total/1";
//!
//!     fn save(&self) -> u64 {
//!         self.total
//!     }
//!
//!     fn restore(&mut self, total: u64) {
//!         self.total = total;
//!     }
//! }
//! # impl Handler for Counter {
//! #     type Data = Lines;
//! #     fn readable(&mut self, connection: &mut Connection<'_, Lines>) -> io::Result<()> {
//! #         while let Some(line) = connection.next_line()? {
//! #             self.total += 1;
//! #             connection.data().0 += 1;
//! #             let count = connection.data().0;
//! #             writeln!(connection, "{count} {line}")?;
//! #         }
//! #         Ok(())
//! #     }
//! # }
//!
//! sockserve_handler::evented!(Counter, hand_over, instance_state);
//! # fn main() {}
//! ```

mod handler;
mod net;
mod server;

pub use handler::Handler;
pub use net::{Connection, ConnectionId, Connections, Socket};
#[doc(hidden)]
pub use server::Server;

#[doc(hidden)]
pub use crate::p2::evented as lower;

/// Makes a component of the contract `evented` from a type that is a
/// [`Handler`](crate::evented::Handler) and [`Default`]. See [the module](crate::evented).
///
/// | option | |
/// | --- | --- |
/// | `hand_over` | hands connections over; [`Handler::Data`](crate::evented::Handler::Data) is [`HandOver`](crate::HandOver) |
/// | `instance_state` | passes on what the type knows; it is [`InstanceState`](crate::InstanceState) |
/// | `verify` | decides which peers come in; the type is [`VerifyRequest`](crate::life_cycle::VerifyRequest) |
/// | `error` | is told what has failed; it is [`HandleError`](crate::life_cycle::HandleError) |
/// | `tick` | works from time to time; it is [`ServiceActions`](crate::life_cycle::ServiceActions) |
///
/// Several may be given: `evented!(Room, hand_over, instance_state)`.
#[macro_export]
macro_rules! evented {
    ($handler:ty $(, $option:ident)* $(,)?) => {
        $crate::evented!(@ $handler, { $($option)* });
    };
    (@ $handler:ty, { $($option:ident)* }) => {
        const _: () = {
            struct Component;
            ::std::thread_local! {
                static SERVER: ::std::cell::RefCell<$crate::evented::Server<$handler>> =
                    ::std::cell::RefCell::default();
            }
            impl $crate::evented::lower::Handler for Component {
                fn turn(
                    events: ::std::vec::Vec<$crate::evented::lower::Event>,
                ) -> ::std::vec::Vec<$crate::evented::lower::Change> {
                    SERVER.with_borrow_mut(|server| server.turn(events))
                }
            }
            $crate::evented::lower::export!(Component with_types_in $crate::evented::lower);
            $($crate::evented!(@@ $option);)*
        };
    };
    (@@ hand_over) => {
        impl $crate::hand_over::HandOver for Component {
            fn hand_over(
                connection: $crate::ConnectionId,
            ) -> ::core::option::Option<$crate::hand_over::WitState> {
                SERVER
                    .with_borrow_mut(|server| server.hand_over(connection))
                    .map(::core::convert::Into::into)
            }
            fn accept(
                connection: $crate::ConnectionId,
                state: $crate::hand_over::WitState,
            ) -> ::core::result::Result<(), ::std::string::String> {
                SERVER.with_borrow_mut(|server| server.accept(connection, &state.into()))
            }
        }
        $crate::hand_over::export!(Component with_types_in $crate::hand_over);
    };
    (@@ instance_state) => {
        impl $crate::instance_state::InstanceState for Component {
            fn save() -> ::core::option::Option<$crate::instance_state::State> {
                SERVER.with_borrow(|server| $crate::instance_state::save(server.handler()))
            }
            fn restore(
                state: $crate::instance_state::State,
            ) -> ::core::result::Result<(), ::std::string::String> {
                SERVER.with_borrow_mut(|server| {
                    $crate::instance_state::restore(server.handler_mut(), state)
                })
            }
        }
        $crate::instance_state::export!(Component with_types_in $crate::instance_state);
    };
    (@@ verify) => {
        impl $crate::life_cycle::verify::Guest for Component {
            fn verify(
                peer: $crate::life_cycle::Info,
            ) -> ::core::result::Result<(), ::std::string::String> {
                use $crate::life_cycle::VerifyRequest as _;
                SERVER.with_borrow_mut(|server| server.handler_mut().verify_request(&peer))
            }
        }
        $crate::life_cycle::verify::export!(Component with_types_in $crate::life_cycle::verify);
    };
    (@@ error) => {
        impl $crate::life_cycle::error::Guest for Component {
            fn error(failure: $crate::life_cycle::Failure) {
                use $crate::life_cycle::HandleError as _;
                SERVER.with_borrow_mut(|server| server.handler_mut().handle_error(&failure))
            }
        }
        $crate::life_cycle::error::export!(Component with_types_in $crate::life_cycle::error);
    };
    (@@ tick) => {
        impl $crate::life_cycle::tick::Guest for Component {
            fn interval() -> u64 {
                use $crate::life_cycle::ServiceActions as _;
                SERVER.with_borrow(|server| {
                    $crate::life_cycle::nanoseconds(server.handler().interval())
                })
            }
            fn tick() {
                use $crate::life_cycle::ServiceActions as _;
                SERVER.with_borrow_mut(|server| server.handler_mut().service_actions())
            }
        }
        $crate::life_cycle::tick::export!(Component with_types_in $crate::life_cycle::tick);
    };
}
