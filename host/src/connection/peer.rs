//! The other side of a connection.

use crate::socket_name::UnixName;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::AsFd;

/// The peer, as the transport reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A peer on the network, or on this machine over loopback.
    Ip(SocketAddr),
    /// A peer on this machine, over a Unix socket.
    Unix {
        /// The name that its socket is bound to. Most clients have none.
        name: UnixName,
        /// Which process it is. `None` if the kernel does not say.
        credentials: Option<Credentials>,
    },
}

/// The process that has connected over a Unix socket, at the moment that it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// Its number. `None` if the process is in another namespace of process numbers.
    pub(crate) pid: Option<u32>,
    /// Its effective user.
    pub(crate) uid: u32,
    /// Its effective group.
    pub(crate) gid: u32,
}

impl Peer {
    /// Makes the peer of a connected Unix socket.
    pub(crate) fn of_unix(socket: impl AsFd, name: UnixName) -> Self {
        Self::Unix {
            name,
            credentials: Credentials::of(socket),
        }
    }

    /// The peer's Internet address. `None` if the transport has no Internet addresses;
    /// `wasi:sockets` cannot express other ones.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }

    /// Which process it is. `None` if the transport does not say.
    pub(crate) fn credentials(&self) -> Option<Credentials> {
        match self {
            Self::Ip(_) => None,
            Self::Unix { credentials, .. } => *credentials,
        }
    }

    /// The peer's address alone. Empty if it has none.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::Ip(address) => address.to_string(),
            Self::Unix { name, .. } => name.to_string(),
        }
    }
}

impl Credentials {
    /// Asks the kernel for the process at the other end of a connected Unix socket.
    fn of(socket: impl AsFd) -> Option<Self> {
        // Not rustix's: its type has no process 0, which the kernel says for a process
        // that this one cannot see.
        let found = getsockopt(&socket, PeerCredentials).ok()?;
        let pid = u32::try_from(found.pid()).ok();
        Some(Self {
            pid: pid.filter(|pid| *pid != 0),
            uid: found.uid(),
            gid: found.gid(),
        })
    }
}

impl fmt::Display for Peer {
    /// `HOST:PORT`, the path or `@NAME` of a Unix socket; for one without a name
    /// `unix:uid=UID,pid=PID`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix {
                name: UnixName::Unnamed,
                credentials: Some(Credentials { pid, uid, .. }),
            } => match pid {
                Some(pid) => write!(f, "unix:uid={uid},pid={pid}"),
                None => write!(f, "unix:uid={uid}"),
            },
            Self::Unix {
                name: UnixName::Unnamed,
                credentials: None,
            } => f.write_str("unix:"),
            Self::Unix { name, .. } => write!(f, "unix:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_unix_peer_is_named_by_its_process_or_its_socket() {
        let (here, _there) = UnixStream::pair().unwrap();
        let peer = Peer::of_unix(&here, UnixName::Unnamed);
        let pid = std::process::id();
        let uid = rustix::process::geteuid().as_raw();
        assert_eq!(peer.to_string(), format!("unix:uid={uid},pid={pid}"));
        assert_eq!((peer.address(), peer.ip()), (String::new(), None));
        let peer = Peer::of_unix(&here, UnixName::from_bytes(b"/tmp/a"));
        assert_eq!(peer.to_string(), "unix:/tmp/a");
        assert_eq!(peer.address(), "/tmp/a");
    }
}
