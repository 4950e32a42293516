//! The two ends of a datagram.

use crate::socket_name::{SocketName, UnixName};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;

/// Both ends of a datagram. An answer has the same ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The other side.
    pub(crate) peer: SocketName,
    /// Our own side.
    pub(crate) local: SocketName,
}

/// For each datagram. So it is short: who the peer is tells almost all ends apart.
impl Hash for Ends {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match &self.peer {
            SocketName::Ip(SocketAddr::V4(peer)) => {
                let ip = u64::from(u32::from(*peer.ip()));
                state.write_u64(ip << 16 | u64::from(peer.port()));
            }
            SocketName::Ip(SocketAddr::V6(peer)) => {
                state.write_u128(u128::from(*peer.ip()));
                state.write_u16(peer.port());
            }
            SocketName::Unix(name) => name.hash(state),
        }
    }
}

/// Whether datagrams for a name go to more than one host, or to nobody in particular.
pub(super) fn is_for_many(name: &SocketName) -> bool {
    match name {
        SocketName::Ip(address) => {
            let ip = address.ip().to_canonical();
            let is_broadcast = matches!(ip, std::net::IpAddr::V4(ip) if ip.is_broadcast());
            ip.is_multicast() || ip.is_unspecified() || is_broadcast
        }
        SocketName::Unix(_) => false,
    }
}

/// Whether a name means the same to everybody. A relative path is resolved in the directory
/// of whoever uses it: in ours it may be a socket that the peer has no right to write to.
pub(super) fn means_one(name: &SocketName) -> bool {
    !matches!(name, SocketName::Unix(UnixName::Path(path)) if path.is_relative())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_names_nobody() {
        let check = |name: &[u8], expected| {
            let name = SocketName::Unix(UnixName::from_bytes(name));
            assert_eq!(means_one(&name), expected, "{name}");
        };
        check(b"/run/x", true);
        check(b"\0x", true);
        check(b"", true);
        check(b"run/x", false);
        check(b"../x", false);
        assert!(means_one(&SocketName::Ip(([127, 0, 0, 1], 1).into())));
    }
}
