//! What a program like inetd gives the process: one socket, as descriptor 0.
//!
//! It is a connection that was accepted (inetd's `nowait`, systemd's `Accept=yes`), or a
//! listener or a datagram socket (`wait`). Which one, the socket itself says.

use crate::connection::peer::Peer;
use crate::listen::accept;
use crate::listen::bind;
use crate::listen::inherited::{self, Role};
use crate::listen::local::{LocalAddress, Transport};
use crate::listen::opening::Opened;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

/// The socket that the process was given.
pub(crate) enum Given {
    /// A connection, which is all that is served.
    Connection {
        socket: OwnedFd,
        peer: Peer,
        local: LocalAddress,
    },
    /// A connection that the peer has reset already. There is nobody to serve.
    Gone,
    /// A socket to listen on, or to take datagrams from.
    Socket(Opened),
}

/// Why there is no such socket. One line.
#[derive(Debug, thiserror::Error)]
#[error("standard input {0}")]
pub(crate) struct NotGiven(String);

/// Takes the socket that is standard input. `backlog` is for a socket that does not
/// listen yet.
pub(crate) fn take(backlog: u32) -> Result<Given, NotGiven> {
    let system = |error: io::Error| NotGiven(format!("cannot be used: {error}"));
    // Standard input itself stays open: its number must not be used for something else.
    let socket = io::stdin().as_fd().try_clone_to_owned().map_err(system)?;
    let role = inherited::role(&socket).map_err(NotGiven)?;
    match role {
        Role::Connection(transport) => match connection(socket, transport) {
            Err(Errno::NOTCONN) => Ok(Given::Gone),
            given => given.map_err(|error| NotGiven(format!("cannot be used: {error}"))),
        },
        // Whoever passes on a listener lets it listen first.
        Role::Idle(_) => Ok(Given::Gone),
        Role::Listener(_) | Role::Datagrams(_) => inherited::from_socket(socket, backlog)
            .map(Given::Socket)
            .map_err(NotGiven),
    }
}

fn connection(socket: OwnedFd, transport: Transport) -> Result<Given, Errno> {
    inherited::prepare(&socket)?;
    let local = inherited::local(transport, &socket)?;
    // A peer that is gone already has no address any more.
    let address = rustix::net::getpeername(&socket)?;
    if transport == Transport::Tcp {
        bind::prepare_tcp(&socket)?;
    }
    let peer = accept::peer(&socket, transport, address).ok_or(Errno::NOTCONN)?;
    Ok(Given::Connection {
        socket,
        peer,
        local,
    })
}
