//! The two ends of a datagram.

use crate::unix_name::UnixName;
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketAddrUnix};
use std::fmt;
use std::net::SocketAddr;

/// Where a datagram comes from, or goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Ip(SocketAddr),
    Unix(UnixName),
}

impl Address {
    /// Whether datagrams for it go to more than one host, or to nobody in particular.
    pub(super) fn is_for_many(&self) -> bool {
        match self {
            Self::Ip(address) => {
                let ip = address.ip().to_canonical();
                let is_broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
                ip.is_multicast() || ip.is_unspecified() || is_broadcast
            }
            Self::Unix(_) => false,
        }
    }
}

impl Address {
    /// Whether the address means the same to everybody. A relative path is resolved in the
    /// directory of whoever uses it: in ours it may be a socket that the peer has no right
    /// to write to.
    pub(super) fn can_be_named(&self) -> bool {
        !matches!(self, Self::Unix(UnixName::Path(path)) if path.is_relative())
    }
}

impl TryFrom<&SocketAddrAny> for Address {
    type Error = Errno;

    fn try_from(address: &SocketAddrAny) -> Result<Self, Errno> {
        match SocketAddrUnix::try_from(address.clone()) {
            Ok(unix) => Ok(Self::Unix((&unix).into())),
            Err(_) => Ok(Self::Ip(SocketAddr::try_from(address.clone())?)),
        }
    }
}

/// Both ends of a datagram. An answer has the same ones.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ends {
    /// The other side.
    pub(crate) peer: Address,
    /// Our own side.
    pub(crate) local: Address,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(name) => write!(f, "unix:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_names_nobody() {
        let check = |name: &[u8], expected| {
            let address = Address::Unix(UnixName::from_bytes(name));
            assert_eq!(address.can_be_named(), expected, "{address}");
        };
        check(b"/run/x", true);
        check(b"\0x", true);
        check(b"", true);
        check(b"run/x", false);
        check(b"../x", false);
        assert!(Address::Ip(([127, 0, 0, 1], 1).into()).can_be_named());
    }
}
