//! The shell for the contracts on WASI 0.2: the bindings of both, and the code that
//! carries a [`crate::session::Session`] over each.

#[cfg(feature = "blocking")]
pub mod blocking;
#[cfg(feature = "datagram")]
pub mod datagram;
#[cfg(feature = "evented")]
pub mod evented;
#[cfg(feature = "evented")]
pub mod reading;

#[cfg(any(feature = "blocking", feature = "evented"))]
mod streams;

#[cfg(any(feature = "blocking", feature = "evented"))]
pub(crate) use streams::socket_options;
#[cfg(any(feature = "blocking", feature = "evented"))]
pub use streams::{CHUNK, connection_info, describe, error_of, io_error, peer, permit, write_all};

crate::addresses!(pub, wasi::sockets::network);
