//! What a handler has of its service's life cycle, beside its contract: who may come in, what
//! has failed, and work from time to time. The names are those of Python's `socketserver`.
//!
//! For every contract these are functions, each with a macro that exports it. Under
//! [`evented`](crate::evented) they are traits of the handler's type instead, so that they
//! have what it knows; the options `verify`, `error` and `tick` of its macro export them.
//!
//! | function | macro | trait |
//! | --- | --- | --- |
//! | `fn(&Info) -> Result<(), E>` | [`verify!`](crate::verify!) | [`VerifyRequest`] |
//! | `fn(&Failure)` | [`error!`](crate::error!) | [`HandleError`] |
//! | `fn()` | [`tick!`](crate::tick!) | [`ServiceActions`] |
//!
//! None of them may wait. What the host does when one traps, or takes longer than
//! `--deadline`, is in `wit/life-cycle.wit`.
//!
//! ```no_run
//! use sockserve_handler::blocking::Connection;
//! use sockserve_handler::life_cycle::{Failure, Info};
//! use std::io;
//! use std::time::Duration;
//!
//! fn handle(connection: &mut Connection) -> io::Result<()> {
//!     # let _ = connection;
//!     Ok(())
//! }
//!
//! fn verify(peer: &Info) -> Result<(), &'static str> {
//!     match peer.credentials {
//!         Some(process) if process.uid == 0 => Err("not for root"),
//!         _ => Ok(()),
//!     }
//! }
//!
//! fn failed(failure: &Failure) {
//!     println!("{} failed: {}", failure.connection.peer, failure.reason);
//! }
//!
//! sockserve_handler::blocking!(handle);
//! sockserve_handler::verify!(verify);
//! sockserve_handler::error!(failed);
//! sockserve_handler::tick!(Duration::from_secs(60), || println!("a minute is over"));
//! # fn main() {}
//! ```
#![allow(missing_docs, reason = "wit-bindgen writes some items without them")]

use std::time::Duration;

#[cfg(any(feature = "blocking", feature = "evented", feature = "concurrent"))]
pub use crate::connection_info::connection_types::Info;
#[cfg(any(feature = "blocking", feature = "evented", feature = "concurrent"))]
pub use error::exports::sockserve::handler::error::{Failure, Fault};

/// The bindings of `verify`.
#[cfg(any(feature = "blocking", feature = "evented", feature = "concurrent"))]
#[doc(hidden)]
pub mod verify {
    wit_bindgen::generate!({
        path: "wit",
        world: "verifying-handler",
        with: {
            "sockserve:handler/connection-types@0.1.0": crate::connection_info::connection_types,
        },
        pub_export_macro: true,
        default_bindings_module: "sockserve_handler::life_cycle::verify",
    });

    pub use exports::sockserve::handler::verify::Guest;
}

/// The bindings of `error`.
#[cfg(any(feature = "blocking", feature = "evented", feature = "concurrent"))]
#[doc(hidden)]
pub mod error {
    wit_bindgen::generate!({
        path: "wit",
        world: "error-handler",
        with: {
            "sockserve:handler/connection-types@0.1.0": crate::connection_info::connection_types,
        },
        pub_export_macro: true,
        default_bindings_module: "sockserve_handler::life_cycle::error",
    });

    pub use exports::sockserve::handler::error::Guest;
}

/// The bindings of `tick`.
#[doc(hidden)]
pub mod tick {
    wit_bindgen::generate!({
        path: "wit",
        world: "ticking-handler",
        pub_export_macro: true,
        default_bindings_module: "sockserve_handler::life_cycle::tick",
    });

    pub use exports::sockserve::handler::tick::Guest;
}

/// An `evented` handler that decides which peers come in: the option `verify` of
/// [`evented!`](crate::evented!).
#[cfg(any(feature = "blocking", feature = "evented", feature = "concurrent"))]
pub trait VerifyRequest {
    /// Whether the peer may come in. The error is one line for the host's log. The peer sees
    /// a close without a byte, and no method is called for it.
    fn verify_request(&mut self, peer: &Info) -> Result<(), String>;
}

/// An `evented` handler that is told what has failed: the option `error` of
/// [`evented!`](crate::evented!).
#[cfg(any(feature = "blocking", feature = "evented", feature = "concurrent"))]
pub trait HandleError {
    /// A connection has failed, and is gone.
    fn handle_error(&mut self, failure: &Failure);
}

/// An `evented` handler with work from time to time that concerns no connection: the option
/// `tick` of [`evented!`](crate::evented!). It comes without any connection too, unlike what
/// `Connections::tick_after` asks for.
pub trait ServiceActions {
    /// How much time is between two calls, at least 1 ms; zero for no calls. Asked once per
    /// version, before it serves.
    fn interval(&self) -> Duration;

    /// Does the work.
    fn service_actions(&mut self);
}

/// A time as the host gets it.
#[doc(hidden)]
pub fn nanoseconds(interval: Duration) -> u64 {
    u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX)
}

/// Lets a function `fn(&Info) -> Result<(), E>` decide which peers come in. See
/// [`life_cycle`](crate::life_cycle). `E` is [`Display`](std::fmt::Display): one line for the
/// host's log.
#[macro_export]
macro_rules! verify {
    ($verify:expr $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::life_cycle::verify::Guest for Component {
                fn verify(
                    peer: $crate::life_cycle::Info,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    ($verify)(&peer).map_err(|error| ::std::string::ToString::to_string(&error))
                }
            }
            $crate::life_cycle::verify::export!(
                Component with_types_in $crate::life_cycle::verify
            );
        };
    };
}

/// Tells a function `fn(&Failure)` which connections have failed. See
/// [`life_cycle`](crate::life_cycle).
#[macro_export]
macro_rules! error {
    ($error:expr $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::life_cycle::error::Guest for Component {
                fn error(failure: $crate::life_cycle::Failure) {
                    ($error)(&failure)
                }
            }
            $crate::life_cycle::error::export!(
                Component with_types_in $crate::life_cycle::error
            );
        };
    };
}

/// Calls a function `fn()` from time to time: each time after this
/// [`Duration`], which is asked for once per version; zero means never. See
/// [`life_cycle`](crate::life_cycle).
#[macro_export]
macro_rules! tick {
    ($interval:expr, $tick:expr $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::life_cycle::tick::Guest for Component {
                fn interval() -> u64 {
                    $crate::life_cycle::nanoseconds($interval)
                }
                fn tick() {
                    ($tick)()
                }
            }
    $crate::life_cycle::tick::export!(Component with_types_in $crate::life_cycle::tick);
        };
    };
}
