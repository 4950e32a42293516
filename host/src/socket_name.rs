//! The names that sockets are bound to.

use crate::text;
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketAddrUnix};
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name that a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SocketName {
    Ip(SocketAddr),
    Unix(UnixName),
}

impl SocketName {
    /// The name alone: `HOST:PORT`, or as [`UnixName`] writes it.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Ip(address) => address.to_string(),
            Self::Unix(name) => name.to_string(),
        }
    }
}

impl TryFrom<SocketAddrAny> for SocketName {
    type Error = Errno;

    fn try_from(address: SocketAddrAny) -> Result<Self, Errno> {
        match SocketAddrUnix::try_from(address.clone()) {
            Ok(unix) => Ok(Self::Unix((&unix).into())),
            Err(_) => Ok(Self::Ip(SocketAddr::try_from(address)?)),
        }
    }
}

impl fmt::Display for SocketName {
    /// `HOST:PORT` or `unix:NAME`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(name) => write!(f, "unix:{name}"),
        }
    }
}

/// The name that a Unix socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum UnixName {
    /// A file.
    Path(Arc<Path>),
    /// A name in Linux's abstract namespace, without the zero byte in front.
    Abstract(Arc<[u8]>),
    /// None: the socket is not bound, as that of most clients.
    Unnamed,
}

impl UnixName {
    /// The name of a peer, as the system reports it.
    pub(crate) fn of_peer(address: Option<SocketAddrAny>) -> Self {
        match address.map(SocketAddrUnix::try_from) {
            Some(Ok(address)) => Self::from(&address),
            _ => Self::Unnamed,
        }
    }

    /// The name as bytes of an address: a path as it is, an abstract name with a zero
    /// byte in front. Empty for no name.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Path(path) => path.as_os_str().as_bytes().to_vec(),
            Self::Abstract(name) => [&[0], &**name].concat(),
            Self::Unnamed => Vec::new(),
        }
    }

    /// Reads what [`to_bytes`](Self::to_bytes) writes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        match bytes {
            [] => Self::Unnamed,
            [0, name @ ..] => Self::Abstract(name.into()),
            path => Self::Path(PathBuf::from(std::ffi::OsStr::from_bytes(path)).into()),
        }
    }

    /// Returns the address with this name. An error if the name is too long, or has a
    /// zero byte inside of a path.
    pub(crate) fn address(&self) -> rustix::io::Result<SocketAddrUnix> {
        match self {
            Self::Path(path) => SocketAddrUnix::new(&**path),
            Self::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
            Self::Unnamed => Ok(SocketAddrUnix::new_unnamed()),
        }
    }
}

impl From<&SocketAddrUnix> for UnixName {
    fn from(address: &SocketAddrUnix) -> Self {
        match (address.path_bytes(), address.abstract_name()) {
            // rustix keeps a zero byte at the end of a path of 107 bytes.
            (Some(path), _) => Self::from_bytes(path.strip_suffix(&[0]).unwrap_or(path)),
            // rustix gives an address that accept(2) reports as having no name in this
            // form. No socket has it in earnest: autobind gives five bytes.
            (None, Some([]) | None) => Self::Unnamed,
            (None, Some(name)) => Self::Abstract(name.into()),
        }
    }
}

impl fmt::Display for UnixName {
    /// A path, `@NAME`, or nothing; on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(&text::path(path)),
            Self::Abstract(name) => write!(f, "@{}", text::escape_bytes(name)),
            Self::Unnamed => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_and_read_as_the_kernel_has_it() {
        let check = |bytes: &[u8], shown: &str| {
            let name = UnixName::from_bytes(bytes);
            assert_eq!(name.to_bytes(), bytes);
            assert_eq!(name.to_string(), shown);
            assert_eq!(UnixName::from(&name.address().unwrap()), name);
        };
        check(b"/run/x.sock", "/run/x.sock");
        check(b"x", "x");
        check(b"/a\nb\xff", "/a\\nb\\xff");
        check(b"\0name", "@name");
        check(b"\0a\0b", "@a\\u{0}b");
        check(b"", "");
        let longest = vec![b'x'; 107];
        check(&longest, &"x".repeat(107));
        check(
            &[&[0][..], &longest].concat(),
            &format!("@{}", "x".repeat(107)),
        );
        for bytes in [vec![b'x'; 109], vec![0; 109], b"a\0b".to_vec()] {
            assert!(UnixName::from_bytes(&bytes).address().is_err(), "{bytes:?}");
        }
    }
}
