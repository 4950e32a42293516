//! What a service listens on: a transport and a name, as the system has it.

use crate::socket_name::{SocketName, UnixName};
use std::fmt;
use std::net::SocketAddr;

/// How bytes or datagrams come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Transport {
    /// TCP: connections on the network.
    Tcp,
    /// UDP: datagrams on the network.
    Udp,
    /// Unix stream sockets: connections on this machine.
    Unix,
    /// Unix datagram sockets: datagrams on this machine.
    UnixDatagram,
}

impl Transport {
    /// Whether it has connections. Otherwise it has datagrams.
    pub const fn has_connections(self) -> bool {
        matches!(self, Self::Tcp | Self::Unix)
    }
}

impl fmt::Display for Transport {
    /// The scheme of its addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::UnixDatagram => "unix+dgram",
        })
    }
}

/// An address that a service listens on. It is written as a listen address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalAddress {
    transport: Transport,
    name: SocketName,
}

impl LocalAddress {
    pub(super) fn new(transport: Transport, name: SocketName) -> Self {
        Self { transport, name }
    }

    pub(super) fn of_ip(transport: Transport, address: SocketAddr) -> Self {
        Self::new(transport, SocketName::Ip(address))
    }

    pub(super) fn of_unix(transport: Transport, name: UnixName) -> Self {
        Self::new(transport, SocketName::Unix(name))
    }

    /// Its transport.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// Its address and port. `None` for a Unix socket.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self.name {
            SocketName::Ip(address) => Some(address),
            SocketName::Unix(_) => None,
        }
    }
}

impl fmt::Display for LocalAddress {
    /// `tcp://HOST:PORT`, `unix:///PATH`, `unix:PATH` for a relative path, or
    /// `unix:@NAME`; on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, name } = self;
        match name {
            SocketName::Ip(address) => write!(f, "{transport}://{address}"),
            SocketName::Unix(UnixName::Path(path)) if path.is_absolute() => {
                write!(f, "{transport}://{}", UnixName::Path(path.clone()))
            }
            SocketName::Unix(name) => write!(f, "{transport}:{name}"),
        }
    }
}
