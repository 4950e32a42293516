//! Sockets that the process was started with, as systemd and inetd give them.
//!
//! systemd says in `LISTEN_FDS` how many there are, from 3 on, in `LISTEN_PID` for which
//! process they are, and in `LISTEN_FDNAMES` their names (sd_listen_fds(3)). Other
//! programs pass a number on the command line. What the socket is, is found out from
//! the socket.

use crate::listen::address::Inherited;
use crate::listen::bind;
use crate::listen::local::{LocalAddress, Transport};
use crate::listen::opening::Opened;
use crate::sync::lock;
use rustix::io::{Errno, FdFlags};
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::{Mutex, OnceLock};

/// Why a descriptor is not one to listen on, and what would work.
type Reason = String;

/// What an inherited socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It listens.
    Listener(Transport),
    /// It does not listen, and is not connected: it was not used yet, or it is a TCP
    /// connection that was reset.
    Idle(Transport),
    /// It is one end of a connection.
    Connection(Transport),
    /// It takes datagrams.
    Datagrams(Transport),
}

/// Takes the descriptors that an address names. Each can be taken once.
pub(super) fn take(which: &Inherited, backlog: u32) -> Result<Vec<Opened>, Reason> {
    let activated = activated().as_ref().map_err(Clone::clone);
    let numbers = match which {
        Inherited::Number(number) => {
            let is_activated = activated.is_ok_and(|all| all.iter().any(|(it, _)| it == number));
            check(*number, is_activated)?;
            vec![*number]
        }
        Inherited::Name(name) => {
            let all = activated?;
            let named: Vec<_> = all
                .iter()
                .filter(|(_, it)| it == name)
                .map(|(number, _)| *number)
                .collect();
            if named.is_empty() {
                return Err(no_name(all));
            }
            named
        }
    };
    let opened = numbers.into_iter().map(|number| {
        let socket = take_number(number)?;
        let about = |reason: Reason| format!("descriptor {number} {reason}");
        from_socket(socket, backlog).map_err(about)
    });
    opened.collect()
}

/// The descriptors of socket activation, with their names. They are asked for once.
fn activated() -> &'static Result<Vec<(RawFd, String)>, Reason> {
    static ACTIVATED: OnceLock<Result<Vec<(RawFd, String)>, Reason>> = OnceLock::new();
    ACTIVATED.get_or_init(|| {
        let found = sd_notify::listen_fds_with_names();
        found.map(Iterator::collect).map_err(|error| {
            format!(
                "the variables LISTEN_FDS and LISTEN_FDNAMES are wrong: {error}; start it by a \
                 systemd socket unit, or write fd://N"
            )
        })
    })
}

/// Says which names there are instead.
fn no_name(all: &[(RawFd, String)]) -> Reason {
    if all.is_empty() {
        return "the process was started without named sockets (LISTEN_FDS, LISTEN_PID); start \
                it by a systemd socket unit, or write fd://N"
            .to_owned();
    }
    let names: BTreeSet<_> = all.iter().map(|(_, name)| name.as_str()).collect();
    let names: Vec<_> = names.into_iter().collect();
    format!(
        "no inherited socket has this name; there is {}",
        crate::text::escape(&names.join(", "))
    )
}

/// Checks that a number names a descriptor that was inherited. Descriptors of this
/// process itself are closed when it starts another program, and inherited ones are not.
fn check(number: RawFd, is_activated: bool) -> Result<(), Reason> {
    #[allow(
        unsafe_code,
        reason = "a number from outside is no descriptor that the types know of"
    )]
    // SAFETY: the descriptor is used for one call, which only asks about it, and which
    // reports a number that is not open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    match rustix::io::fcntl_getfd(descriptor) {
        Ok(flags) if is_activated || !flags.contains(FdFlags::CLOEXEC) => Ok(()),
        Ok(_) | Err(Errno::BADF) => Err(format!(
            "the process was not started with a descriptor {number}; name one that is passed on \
             to it"
        )),
        Err(error) => Err(format!("descriptor {number}: {error}")),
    }
}

/// Takes possession of a descriptor that was checked.
fn take_number(number: RawFd) -> Result<OwnedFd, Reason> {
    static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());
    if !lock(&TAKEN).insert(number) {
        return Err(format!(
            "descriptor {number} is given twice; each can be listened on once"
        ));
    }
    #[allow(
        unsafe_code,
        reason = "a number from outside is no descriptor that the types know of"
    )]
    // SAFETY: the descriptor was open when the process started and is not one of this
    // process's own (`check`), and it is taken once.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    Ok(descriptor)
}

/// Prepares an inherited socket as one that was bound here. An error continues
/// "descriptor N".
pub(super) fn from_socket(socket: OwnedFd, backlog: u32) -> Result<Opened, Reason> {
    let role = role(&socket)?;
    let system = |error: Errno| format!("cannot be used: {error}");
    let transport = match role {
        Role::Connection(_) => {
            return Err("is a connection and does not listen; `sockserve inetd` serves one".into());
        }
        Role::Listener(transport) | Role::Idle(transport) | Role::Datagrams(transport) => transport,
    };
    if transport == Transport::Tcp {
        bind::prepare_tcp(&socket).map_err(system)?;
    }
    if matches!(role, Role::Idle(_)) {
        bind::listen(&socket, backlog).map_err(system)?;
    }
    prepare(&socket).map_err(system)?;
    Ok(Opened {
        asked: None,
        local: local(transport, &socket).map_err(system)?,
        socket: Arc::new(socket),
        is_inherited: true,
        file: None,
    })
}

/// Lets an inherited socket not block, and closes it where this process starts another.
pub(super) fn prepare(socket: impl AsFd) -> rustix::io::Result<()> {
    let socket = socket.as_fd();
    rustix::io::ioctl_fionbio(socket, true)?;
    rustix::io::fcntl_setfd(socket, FdFlags::CLOEXEC)
}

/// The address that a socket is bound to.
pub(super) fn local(transport: Transport, socket: impl AsFd) -> rustix::io::Result<LocalAddress> {
    let name = rustix::net::getsockname(socket)?.try_into()?;
    Ok(LocalAddress::new(transport, name))
}

/// Asks a descriptor what it is. An error continues "descriptor N".
pub(super) fn role(socket: impl AsFd) -> Result<Role, Reason> {
    const WANTED: &str = "pass a TCP, UDP or Unix socket";
    let socket = socket.as_fd();
    let system = |error: Errno| match error {
        Errno::NOTSOCK => format!("is no socket; {WANTED}"),
        error => format!("cannot be used: {error}; {WANTED}"),
    };
    let kind = sockopt::socket_type(socket).map_err(system)?;
    let family = sockopt::socket_domain(socket).map_err(system)?;
    let is_ip = matches!(family, AddressFamily::INET | AddressFamily::INET6);
    let is_unix = family == AddressFamily::UNIX;
    match kind {
        SocketType::STREAM if is_ip || is_unix => {
            let transport = if is_ip {
                Transport::Tcp
            } else {
                Transport::Unix
            };
            if sockopt::socket_acceptconn(socket).map_err(system)? {
                return Ok(Role::Listener(transport));
            }
            match rustix::net::getpeername(socket) {
                Err(Errno::NOTCONN) => Ok(Role::Idle(transport)),
                // EINVAL: a connection that has ended in the meantime.
                Ok(_) | Err(Errno::INVAL) => Ok(Role::Connection(transport)),
                Err(error) => Err(system(error)),
            }
        }
        SocketType::DGRAM if is_ip => Ok(Role::Datagrams(Transport::Udp)),
        SocketType::DGRAM if is_unix => Ok(Role::Datagrams(Transport::UnixDatagram)),
        _ => Err(format!("is a socket of another kind; {WANTED}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    #[test]
    fn a_socket_says_itself_what_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(role(&listener), Ok(Role::Listener(Transport::Tcp)));
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(role(&stream), Ok(Role::Connection(Transport::Tcp)));
        let datagrams = UdpSocket::bind("[::1]:0").unwrap();
        assert_eq!(role(&datagrams), Ok(Role::Datagrams(Transport::Udp)));
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(role(&one), Ok(Role::Connection(Transport::Unix)));
        let datagrams = UnixDatagram::unbound().unwrap();
        assert_eq!(
            role(&datagrams),
            Ok(Role::Datagrams(Transport::UnixDatagram))
        );
        let unbound = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None);
        assert_eq!(role(unbound.unwrap()), Ok(Role::Idle(Transport::Unix)));
        let file = File::open("/dev/null").unwrap();
        assert!(role(&file).unwrap_err().contains("is no socket; pass"));
        let packets = rustix::net::socket(AddressFamily::UNIX, SocketType::SEQPACKET, None);
        assert!(
            role(packets.unwrap())
                .unwrap_err()
                .contains("of another kind")
        );
    }

    #[test]
    fn a_descriptor_of_this_process_is_not_inherited() {
        use std::os::fd::AsRawFd as _;
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = check(own.as_raw_fd(), false).unwrap_err();
        assert!(error.contains("was not started with"), "{error}");
        assert!(check(RawFd::MAX, false).is_err());
    }

    #[test]
    fn the_names_that_there_are_are_named() {
        let all = [
            (3, "b".to_owned()),
            (4, "a".to_owned()),
            (5, "b".to_owned()),
        ];
        assert!(no_name(&all).ends_with("there is a, b"));
        assert!(no_name(&[]).contains("systemd socket unit"));
    }
}
