//! The lower layer on WASI 0.3: the bindings of each contract, and the code that carries a
//! [`Conversation`](crate::session::Conversation) over it.

#[cfg(feature = "concurrent")]
pub mod concurrent;
#[cfg(feature = "datagram-concurrent")]
pub mod datagram;
#[cfg(feature = "concurrent")]
mod draining;
#[cfg(feature = "concurrent")]
mod serve;

crate::addresses!(pub, wasip3::sockets::types);
crate::error_name!(pub, wasip3::sockets::types);
