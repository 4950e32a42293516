//! The other side of a connection.

use std::fmt;
use std::net::SocketAddr;

/// The peer's address, as the transport reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A peer on the network, or on this machine over loopback.
    Ip(SocketAddr),
}

impl Peer {
    /// The peer's Internet address. `None` if the transport has no Internet addresses;
    /// `wasi:sockets` cannot express other ones.
    pub(crate) fn ip(self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(address),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
        }
    }
}
