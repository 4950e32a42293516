//! Makes sockets on the network, with their options.

use crate::listen::local::Transport;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
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

/// How to bind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BindOptions {
    /// UDP or TCP.
    pub(crate) transport: Transport,
    /// Connections that the kernel holds before they are accepted. TCP only.
    pub(crate) backlog: u32,
    /// Whether other sockets may have the same address, and share what comes.
    pub(crate) reuse_port: bool,
    /// Whether an address may be left out because the machine has not its family. One
    /// address has to remain.
    pub(crate) may_lack_family: bool,
}

/// Binds all of `addresses`, which have the same port. If the port is 0, the kernel
/// chooses one that is free on all of them. Returns each socket with its address.
pub(crate) fn bind_all(
    addresses: &[SocketAddr],
    options: BindOptions,
) -> Result<Vec<(OwnedFd, SocketAddr)>, BindError> {
    let bind = |at: SocketAddr| {
        bind_at(at, options)
            .and_then(|socket| {
                let local = local_address(&socket)?;
                Ok((socket, local))
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
                Ok(socket) => bound.push(socket),
                Err(BindError { error, .. })
                    if options.may_lack_family && !bound.is_empty() && lacks_family(&error) =>
                {
                    tracing::debug!(%at, %error, "the machine has no such address");
                }
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

/// Whether the machine has no addresses of this family: it was built or started without
/// it, or no interface has one.
fn lacks_family(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL)
    )
}

/// Binds a socket, with SO_REUSEADDR under TCP, and with IPV6_V6ONLY on IPv6. A TCP
/// socket listens.
fn bind_at(address: SocketAddr, options: BindOptions) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let listens = options.transport.has_connections();
    let kind = if listens {
        SocketType::STREAM
    } else {
        SocketType::DGRAM
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, kind, flags, None)?;
    if listens {
        // Under UDP this would let a second socket take the datagrams of the first.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        prepare_tcp(&socket)?;
    }
    if options.reuse_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    if listens {
        listen(&socket, options.backlog)?;
    }
    Ok(socket)
}

/// Sets what the sockets that a TCP listener accepts inherit: TCP_NODELAY and
/// keep-alive.
pub(super) fn prepare_tcp(listener: impl AsFd) -> rustix::io::Result<()> {
    let listener = listener.as_fd();
    // A handler answers in small pieces, and WASI cannot set no-delay itself.
    sockopt::set_tcp_nodelay(listener, true)?;
    // A peer that vanished without FIN or RST must not keep its place forever.
    sockopt::set_socket_keepalive(listener, true)?;
    sockopt::set_tcp_keepidle(listener, KEEP_ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(listener, KEEP_ALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(listener, KEEP_ALIVE_COUNT)
}

/// Lets a bound socket take connections.
pub(super) fn listen(socket: impl AsFd, connections: u32) -> rustix::io::Result<()> {
    rustix::net::listen(socket, backlog(connections))
}

/// A backlog as the system takes it.
pub(super) fn backlog(connections: u32) -> i32 {
    i32::try_from(connections).unwrap_or(i32::MAX)
}

/// The address that a socket got.
fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    Ok(rustix::net::getsockname(socket)?.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: BindOptions = BindOptions {
        transport: Transport::Tcp,
        backlog: 1,
        reuse_port: false,
        may_lack_family: false,
    };

    /// Linux has all addresses of 127.0.0.0/8.
    fn loopback(last: u8) -> SocketAddr {
        ([127, 0, 0, last], 0).into()
    }

    #[test]
    fn the_addresses_of_a_name_have_one_port() {
        let addresses = [1, 2, 3].map(loopback);
        let bound = bind_all(&addresses, TCP).unwrap();
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
        let failed = bind_all(&[loopback(1), nowhere], TCP).unwrap_err();
        assert_eq!(failed.at.ip(), nowhere.ip());
        assert_eq!(failed.error.kind(), io::ErrorKind::AddrNotAvailable);
    }

    #[test]
    fn a_port_is_shared_only_if_that_was_asked_for() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let options = BindOptions { transport, ..TCP };
            let first = bind_all(&[loopback(1)], options).unwrap();
            let again = bind_all(&[first[0].1], options).unwrap_err();
            assert_eq!(again.error.kind(), io::ErrorKind::AddrInUse);
            let options = BindOptions {
                reuse_port: true,
                ..options
            };
            let first = bind_all(&[loopback(1)], options).unwrap();
            bind_all(&[first[0].1], options).unwrap();
        }
    }

    #[test]
    fn a_family_that_the_machine_has_not_can_be_left_out() {
        let nowhere: SocketAddr = "[2001:db8::1]:0".parse().unwrap();
        let options = BindOptions {
            may_lack_family: true,
            ..TCP
        };
        assert_eq!(bind_all(&[loopback(1), nowhere], options).unwrap().len(), 1);
        bind_all(&[nowhere], options).unwrap_err();
    }
}
