//! The contract `blocking`: a function per connection, which may wait.
//!
//! ```no_run
//! use sockserve_handler::blocking::Connection;
//! use std::io::{self, Write as _};
//!
//! fn handle(connection: &mut Connection) -> io::Result<()> {
//!     let mut count = 0;
//!     while let Some(line) = connection.next_line()? {
//!         count += 1;
//!         writeln!(connection, "{count} {line}")?;
//!     }
//!     Ok(())
//! }
//!
//! sockserve_handler::blocking!(handle);
//! # fn main() {}
//! ```
//!
//! # Hand-over
//! By default a connection stays with its version until the function returns. With
//! `hand_over = TYPE` the function gets a value of that type, which is a [`HandOver`]. When
//! the connection is to be handed over, the next read fails and has taken nothing; `?`
//! carries the error out of the function, and the value is saved. In the next version the
//! function begins again, with the value as it was. So the value has to say at each read
//! where the function is:
//!
//! ```no_run
//! # use sockserve_handler::blocking::Connection;
//! # use sockserve_handler::HandOver;
//! # use std::io::{self, Write as _};
//! # #[derive(Default)]
//! # struct Lines(u64);
//! # impl HandOver for Lines {
//! #     type State = u64;
//! #     const TAG: &'static str = "lines/1";
//! #     fn save(&self) -> u64 { self.0 }
//! #     fn resume(state: u64) -> Self { Self(state) }
//! # }
//! fn handle(connection: &mut Connection, lines: &mut Lines) -> io::Result<()> {
//!     while let Some(line) = connection.next_line()? {
//!         lines.0 += 1;
//!         writeln!(connection, "{} {line}", lines.0)?;
//!     }
//!     Ok(())
//! }
//!
//! sockserve_handler::blocking!(handle, hand_over = Lines);
//! # fn main() {}
//! ```
//!
//! A function that does not let the error out goes on with its connection.
//! `hand_over = ()` is for a function that keeps nothing between two reads.

mod connection;
mod request;
mod serve;

pub use connection::Connection;
pub use request::{RequestHandler, request};
#[doc(hidden)]
pub use serve::{serve, serve_with};

#[doc(hidden)]
pub use crate::p2::blocking as lower;

#[cfg(doc)]
use crate::HandOver;

/// Makes a component of the contract `blocking` from a function. See
/// [the module](crate::blocking).
///
/// | written | the function |
/// | --- | --- |
/// | `blocking!(handle)` | `fn(&mut Connection) -> Result<(), E>` |
/// | `blocking!(handle, hand_over = TYPE)` | `fn(&mut Connection, &mut TYPE) -> Result<(), E>` |
///
/// `TYPE` is [`Default`], for a connection that begins, and
/// [`HandOver`](crate::HandOver). `E` is [`Display`](std::fmt::Display): an error is one
/// line of the host's log, and the connection counts as failed.
#[macro_export]
macro_rules! blocking {
    ($handle:expr $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::blocking::lower::Handler for Component {
                fn handle(
                    socket: $crate::wasi::sockets::tcp::TcpSocket,
                    input: $crate::wasi::io::streams::InputStream,
                    output: $crate::wasi::io::streams::OutputStream,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::blocking::serve(socket, input, output, $handle)
                }
            }
    $crate::blocking::lower::export!(Component with_types_in $crate::blocking::lower);
        };
    };
    ($handle:expr, hand_over = $state:ty $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::blocking::lower::Handler for Component {
                fn handle(
                    socket: $crate::wasi::sockets::tcp::TcpSocket,
                    input: $crate::wasi::io::streams::InputStream,
                    output: $crate::wasi::io::streams::OutputStream,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::blocking::serve_with::<$state, _>(socket, input, output, $handle)
                }
            }
            impl $crate::hand_over::HandOver for Component {
                fn hand_over(
                    connection: $crate::ConnectionId,
                ) -> ::core::option::Option<$crate::hand_over::WitState> {
                    $crate::hand_over::take_given_up(connection).map(::core::convert::Into::into)
                }
                fn accept(
                    connection: $crate::ConnectionId,
                    state: $crate::hand_over::WitState,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::hand_over::accept_for::<$state>(connection, state.into())
                }
            }
    $crate::blocking::lower::export!(Component with_types_in $crate::blocking::lower);
    $crate::hand_over::export!(Component with_types_in $crate::hand_over);
        };
    };
}
