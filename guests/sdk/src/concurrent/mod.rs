//! The contract `concurrent`: an asynchronous function per connection, many at once in one
//! instance.
//!
//! ```no_run
//! use sockserve_handler::concurrent::Connection;
//! use std::io;
//!
//! async fn handle(connection: &mut Connection) -> io::Result<()> {
//!     let mut count = 0;
//!     while let Some(line) = connection.next_line().await? {
//!         count += 1;
//!         writeln!(connection, "{count} {line}")?;
//!     }
//!     Ok(())
//! }
//!
//! sockserve_handler::concurrent!(handle);
//! # fn main() {}
//! ```
//!
//! Functions take turns where they wait. [`sleep`], [`timeout`] and [`spawn`] are for what
//! is not the connection.
//!
//! # Hand-over
//! It is as [under `blocking`](crate::blocking#hand-over): with `hand_over = TYPE` the
//! function gets a value of that type. When the connection is to be handed over, the next
//! read fails and has taken nothing, and `?` carries the error out of the function.
//!
//! ```no_run
//! # use sockserve_handler::concurrent::Connection;
//! # use sockserve_handler::HandOver;
//! # use std::io;
//! # #[derive(Default)]
//! # struct Lines(u64);
//! # impl HandOver for Lines {
//! #     type State = u64;
//! #     const TAG: &'static str = "lines/1";
//! #     fn save(&self) -> u64 { self.0 }
//! #     fn resume(state: u64) -> Self { Self(state) }
//! # }
//! async fn handle(connection: &mut Connection, lines: &mut Lines) -> io::Result<()> {
//!     while let Some(line) = connection.next_line().await? {
//!         lines.0 += 1;
//!         writeln!(connection, "{} {line}", lines.0)?;
//!     }
//!     Ok(())
//! }
//!
//! sockserve_handler::concurrent!(handle, hand_over = Lines);
//! # fn main() {}
//! ```

mod connection;
mod serve;
mod time;

pub use connection::Connection;
#[doc(hidden)]
pub use serve::{serve, serve_with};
pub use time::{Elapsed, sleep, timeout};

#[doc(hidden)]
pub use crate::p3::concurrent as lower;

/// Runs a task of its own in this instance, beside the functions of connections. It ends
/// with the instance.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    wit_bindgen::spawn_local(task);
}

/// Makes a component of the contract `concurrent` from an asynchronous function. See
/// [the module](crate::concurrent).
///
/// | option | the function |
/// | --- | --- |
/// | none | `async fn(&mut Connection) -> Result<(), E>` |
/// | `hand_over = TYPE` | `async fn(&mut Connection, &mut TYPE) -> Result<(), E>` |
///
/// `TYPE` is [`Default`], for a connection that begins, and
/// [`HandOver`](crate::HandOver). `E` is [`Display`](std::fmt::Display): an error is one
/// line of the host's log, and the connection counts as failed.
///
/// `instance_state = NAME` may follow, where `NAME` is a thread-local
/// [`RefCell`](std::cell::RefCell) of a type that is
/// [`InstanceState`](crate::InstanceState).
#[macro_export]
macro_rules! concurrent {
    ($handle:expr $(, instance_state = $instance:path)? $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::concurrent::lower::Handler for Component {
                async fn handle(
                    socket: $crate::wasip3::sockets::types::TcpSocket,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::concurrent::serve(socket, $handle).await
                }
            }
            $crate::concurrent::lower::export!(Component with_types_in $crate::concurrent::lower);
            $($crate::instance_state!(Component, $instance);)?
        };
    };
    ($handle:expr, hand_over = $state:ty $(, instance_state = $instance:path)? $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::concurrent::lower::Handler for Component {
                async fn handle(
                    socket: $crate::wasip3::sockets::types::TcpSocket,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    $crate::concurrent::serve_with::<$state, _>(socket, $handle).await
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
            $crate::concurrent::lower::export!(Component with_types_in $crate::concurrent::lower);
            $crate::hand_over::export!(Component with_types_in $crate::hand_over);
            $($crate::instance_state!(Component, $instance);)?
        };
    };
}
