//! Makes listening sockets, with their options.

use rustix::net::SocketFlags;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How many ports are tried for a name with port 0: a port that the kernel chose for
/// the first address may be in use on another one.
const TRIES: u32 = 32;

/// A peer that does not answer is given up two minutes after its last byte: after a
/// minute of silence the kernel sends four probes, one every 15 seconds. A handler can
/// set other times.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEP_ALIVE_COUNT: u32 = 4;

/// One address that could not be listened on.
#[derive(Debug)]
pub(crate) struct BindError {
    /// The address.
    pub(crate) at: SocketAddr,
    /// What the system said.
    pub(crate) error: io::Error,
}

/// Listens on all of `addresses`, which have the same port. If the port is 0, the
/// kernel chooses one that is free on all of them. Returns each socket with its
/// address.
pub(crate) fn bind_all(
    addresses: &[SocketAddr],
    backlog: u32,
) -> Result<Vec<(OwnedFd, SocketAddr)>, BindError> {
    let bind = |at: SocketAddr| {
        listen_at(at, backlog)
            .and_then(|listener| {
                let local = local_address(&listener)?;
                Ok((listener, local))
            })
            .map_err(|error| BindError { at, error })
    };
    let mut tries = 0;
    loop {
        tries += 1;
        let mut bound: Vec<(OwnedFd, SocketAddr)> = Vec::new();
        let mut result = Ok(());
        for address in addresses {
            let mut at = *address;
            if let Some((_, first)) = bound.first() {
                at.set_port(first.port());
            }
            match bind(at) {
                Ok(listener) => bound.push(listener),
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        match result {
            Ok(()) => return Ok(bound),
            // The port that the kernel chose is in use on this address.
            Err(BindError { at, error })
                if error.kind() == io::ErrorKind::AddrInUse
                    && tries < TRIES
                    && !bound.is_empty()
                    && addresses.first().is_some_and(|first| first.port() == 0) =>
            {
                tracing::debug!(%at, "the free port is in use there; trying another");
            }
            Err(error) => return Err(error),
        }
    }
}

/// Binds and listens, with SO_REUSEADDR, and with IPV6_V6ONLY on IPv6. The sockets that
/// it accepts have TCP_NODELAY and keep-alive on.
fn listen_at(address: SocketAddr, backlog: u32) -> io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketType, sockopt};
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    // Accepted sockets inherit what is set here. A handler answers in small pieces, and
    // WASI cannot set no-delay itself.
    sockopt::set_tcp_nodelay(&socket, true)?;
    // A peer that vanished without FIN or RST must not keep its place forever.
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEP_ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEP_ALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&socket, KEEP_ALIVE_COUNT)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket)
}

/// The address that a listener got.
fn local_address(listener: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(rustix::net::getsockname(listener)?.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Linux has all addresses of 127.0.0.0/8.
    fn loopback(last: u8) -> SocketAddr {
        ([127, 0, 0, last], 0).into()
    }

    #[test]
    fn the_addresses_of_a_name_have_one_port() {
        let addresses = [1, 2, 3].map(loopback);
        let bound = bind_all(&addresses, 1).unwrap();
        let locals: Vec<_> = bound.iter().map(|(_, local)| *local).collect();
        assert_eq!(locals.len(), 3);
        assert_ne!(locals[0].port(), 0);
        for (local, address) in locals.iter().zip(addresses) {
            assert_eq!(local.ip(), address.ip());
            assert_eq!(local.port(), locals[0].port());
        }
    }

    #[test]
    fn the_address_that_fails_is_named() {
        // RFC 5737: an address for documentation, which no machine has.
        let nowhere: SocketAddr = "192.0.2.1:0".parse().unwrap();
        let failed = bind_all(&[loopback(1), nowhere], 1).unwrap_err();
        assert_eq!(failed.at.ip(), nowhere.ip());
        assert_eq!(failed.error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
