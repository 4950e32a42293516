//! Opens the sockets of a service.

use crate::listen::address::{AddressError, Kind, ListenAddress, Place};
use crate::listen::bind::{self, BindError, BindOptions};
use crate::listen::error::ListenError;
use crate::listen::inherited;
use crate::listen::local::{LocalAddress, Transport};
use crate::socket_file::{Access, SocketFile};
use crate::socket_name::UnixName;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// How the addresses of a service are listened on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenOptions {
    /// Whether other processes of this user may listen on the same addresses and ports.
    /// The kernel then shares connections and datagrams out (SO_REUSEPORT). By default
    /// they may not.
    pub reuse_port: bool,
    /// The permission bits of socket files, whatever the umask is. By default 0o660 if
    /// there is a `unix_group`, and otherwise what the umask leaves of 0o777.
    pub unix_mode: Option<u32>,
    /// The group of socket files, by its number. By default that of the process.
    pub unix_group: Option<u32>,
    /// The user that socket files are given to, and its group, which they get if there is
    /// no `unix_group`; both by their numbers. By default they stay with the process's user.
    pub unix_owner: Option<(u32, u32)>,
}

/// A socket that a service listens on, or takes datagrams from. Two services have it for a
/// moment while it goes from one to the other.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    /// Declared before the file: nobody listens any more when the file is removed.
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) local: LocalAddress,
    /// What it was asked for by. `None` if the process was given it.
    pub(crate) asked: Option<ListenAddress>,
    /// Whether another process may have the socket too, and go on with it.
    pub(crate) is_inherited: bool,
    /// The socket's file, if it has one of its own.
    pub(crate) file: Option<Arc<SocketFile>>,
}

/// Opens the sockets of all `addresses`, in their order. `backlog` is how many
/// connections the kernel holds before they are accepted. What is in `present` is open
/// already and is taken as it is. After an error nothing is left behind.
///
/// Looks names up, which may take long.
pub(crate) fn open(
    addresses: &[ListenAddress],
    backlog: u32,
    options: ListenOptions,
    present: &[Opened],
) -> Result<Vec<Opened>, ListenError> {
    let mut all: Vec<Opened> = Vec::with_capacity(addresses.len());
    for address in addresses {
        let mut of_address = present
            .iter()
            .filter(|it| it.asked.as_ref() == Some(address))
            .peekable();
        if of_address.peek().is_some() {
            all.extend(of_address.cloned());
            continue;
        }
        let twice = |local: &LocalAddress| {
            let is_there = all.iter().any(|opened| opened.local == *local);
            is_there.then(|| AddressError::Twice(address.clone(), local.clone()))
        };
        let opened = match &address.0 {
            Kind::Ip {
                transport,
                place,
                port,
            } => {
                let found = place.resolve(*port);
                let found = found.map_err(|error| AddressError::Lookup(address.clone(), error))?;
                for ip in &found {
                    if let Some(error) = twice(&LocalAddress::of_ip(*transport, *ip)) {
                        return Err(error.into());
                    }
                }
                let options = BindOptions {
                    transport: *transport,
                    backlog,
                    reuse_port: options.reuse_port,
                    may_lack_family: *place == Place::Any,
                };
                let bound = bind::bind_all(&found, options);
                let bound = bound.map_err(|BindError { at, error }| ListenError::Bind {
                    address: address.clone(),
                    at,
                    error,
                })?;
                let opened = bound.into_iter().map(|(socket, ip)| Opened {
                    socket: Arc::new(socket),
                    local: LocalAddress::of_ip(*transport, ip),
                    asked: Some(address.clone()),
                    is_inherited: false,
                    file: None,
                });
                opened.collect()
            }
            Kind::Unix { transport, name } => {
                let local = LocalAddress::of_unix(*transport, name.clone());
                if let Some(error) = twice(&local) {
                    return Err(error.into());
                }
                let (socket, file) = open_unix(address, *transport, name, backlog, options)?;
                vec![Opened {
                    socket: Arc::new(socket),
                    local,
                    asked: Some(address.clone()),
                    is_inherited: false,
                    file: file.map(Arc::new),
                }]
            }
            Kind::Inherited(which) => {
                let taken = inherited::take(which, backlog);
                let taken = taken.map_err(|reason| ListenError::Inherited {
                    address: address.clone(),
                    reason,
                })?;
                let of_address = taken.into_iter().map(|opened| Opened {
                    asked: Some(address.clone()),
                    ..opened
                });
                of_address.collect()
            }
        };
        all.extend(opened);
    }
    Ok(all)
}

/// Binds a Unix socket. A stream socket listens.
fn open_unix(
    address: &ListenAddress,
    transport: Transport,
    name: &UnixName,
    backlog: u32,
    options: ListenOptions,
) -> Result<(OwnedFd, Option<SocketFile>), ListenError> {
    let kind = if transport.has_connections() {
        SocketType::STREAM
    } else {
        SocketType::DGRAM
    };
    let access = Access {
        mode: options.unix_mode,
        group: options.unix_group,
        owner: options.unix_owner,
    };
    let backlog = transport.has_connections().then(|| bind::backlog(backlog));
    if let UnixName::Path(path) = name {
        let (socket, file) = SocketFile::bind(path, kind, access, backlog)?;
        return Ok((socket, Some(file)));
    }
    let bound = bind_abstract(name, kind, backlog);
    let socket = bound.map_err(|error| ListenError::Abstract {
        address: address.clone(),
        error: error.into(),
    })?;
    Ok((socket, None))
}

/// Binds a socket to a name that is no file. With a `backlog` it listens.
fn bind_abstract(
    name: &UnixName,
    kind: SocketType,
    backlog: Option<i32>,
) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    rustix::net::bind(&socket, &name.address()?)?;
    if let Some(backlog) = backlog {
        rustix::net::listen(&socket, backlog)?;
    }
    Ok(socket)
}
