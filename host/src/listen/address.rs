//! Where a service listens, as it is written: `tcp://HOST:PORT`, `unix:///PATH` and so
//! on.

use crate::host_port::{self, Host, Wrong};
use crate::listen::local::{LocalAddress, Transport};
use crate::socket_file::MAX_PATH;
use crate::socket_name::UnixName;
use crate::text;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

/// An address to listen on, as it is written on the command line.
///
/// | | |
/// | --- | --- |
/// | `tcp://HOST:PORT`, `udp://HOST:PORT` | on the network |
/// | `unix:///PATH`, `unix:PATH` | connections, at a file |
/// | `unix:@NAME` | connections, at a name in Linux's abstract namespace |
/// | `unix+dgram:///PATH`, `unix+dgram:PATH`, `unix+dgram:@NAME` | datagrams |
/// | `fd://N`, `fd://NAME` | a descriptor that the process was started with |
///
/// `HOST` is an IPv4 address, an IPv6 address in brackets, a name, or `*` for all
/// addresses of the machine, IPv4 and IPv6. A link-local IPv6 address has a zone, the
/// name or number of its interface (`[fe80::1%eth0]`). A name is looked up once, when
/// the service starts; the service listens on all its addresses, on one port. Port 0
/// lets the kernel choose. The scheme may be written in capitals.
///
/// A path is taken as it is; nothing in it is decoded. After `://` it begins with `/`.
///
/// `NAME` of an inherited descriptor is the one that systemd gives it
/// (`FileDescriptorName=`); it may stand for several. What the descriptor is (listener
/// or datagram socket, TCP, UDP or Unix) is found out from the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress(pub(super) Kind);

/// What a listen address names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ip {
        transport: Transport,
        place: Place,
        port: u16,
    },
    Unix {
        transport: Transport,
        name: UnixName,
    },
    Inherited(Inherited),
}

/// Which addresses of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// All of both families.
    Any,
    Host(Host),
}

/// Which descriptors of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inherited {
    Number(i32),
    /// All that the service manager has given this name.
    Name(String),
}

/// Why a listen address was refused. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The text is no listen address.
    #[error(
        "`{address}` is no listen address: {reason}write tcp://HOST:PORT, udp://HOST:PORT, \
         unix:///PATH, unix+dgram:///PATH or fd://N, for example tcp://127.0.0.1:7000 or \
         tcp://[::1]:0",
        address = text::escape(.address)
    )]
    Syntax {
        /// The text.
        address: String,
        /// What is wrong with it and what would work, with a semicolon at the end.
        /// Empty if that is not known.
        reason: String,
    },
    /// The name has no address.
    #[error("{0}: no address found: {1}; {advice}", advice = .0.advice())]
    Lookup(ListenAddress, #[source] io::Error),
    /// An address was given before.
    #[error("{0}: {1} is given twice; each address can be listened on once")]
    Twice(ListenAddress, LocalAddress),
}

impl Place {
    /// Looks the host up. Returns all its addresses, each of them once.
    pub(super) fn resolve(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Any => Ok(vec![
                (Ipv4Addr::UNSPECIFIED, port).into(),
                (Ipv6Addr::UNSPECIFIED, port).into(),
            ]),
            Self::Host(host) => host.resolve(port),
        }
    }
}

/// How two listen addresses are in each other's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clash {
    /// They are the same address.
    Same,
    /// One stands for all addresses of the machine, and the other is one of them. The
    /// kernel allows that only if both share their ports (SO_REUSEPORT).
    Within,
}

impl Place {
    /// The same for two places on one port. IPv6 sockets take no IPv4 (IPV6_V6ONLY).
    fn clash(&self, other: &Self) -> Option<Clash> {
        let (one, other) = match (self, other) {
            (Self::Any, Self::Any) => return Some(Clash::Same),
            // Whatever a name stands for, it is an address of one of the families.
            (Self::Any, Self::Host(_)) | (Self::Host(_), Self::Any) => return Some(Clash::Within),
            (Self::Host(one), Self::Host(other)) => (one, other),
        };
        let is_same = match (one, other) {
            (Host::Name(one), Host::Name(other)) => one.eq_ignore_ascii_case(other),
            (one, other) => one == other,
        };
        if is_same {
            return Some(Clash::Same);
        }
        let is_within = match (one, other) {
            (Host::V4(one), Host::V4(other)) => one.is_unspecified() || other.is_unspecified(),
            (Host::V6(one, _), Host::V6(other, _)) => {
                one.is_unspecified() || other.is_unspecified()
            }
            _ => false,
        };
        is_within.then_some(Clash::Within)
    }
}

impl ListenAddress {
    /// Whether the text does not show the addresses: it has a name, or `*`.
    pub(super) fn is_name(&self) -> bool {
        match &self.0 {
            Kind::Ip {
                place: Place::Host(host),
                ..
            } => !host.is_address(),
            Kind::Ip { .. } => true,
            Kind::Unix { .. } | Kind::Inherited(_) => false,
        }
    }

    /// Whether the text names the same socket each time. Port 0 names another one each time.
    pub(crate) fn is_one_socket(&self) -> bool {
        !matches!(self.0, Kind::Ip { port: 0, .. })
    }

    /// How it comes there. `None` for an inherited socket, which says so itself.
    pub(crate) fn transport(&self) -> Option<Transport> {
        match &self.0 {
            Kind::Ip { transport, .. } | Kind::Unix { transport, .. } => Some(*transport),
            Kind::Inherited(_) => None,
        }
    }

    /// The path of its socket file, if it has one.
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Unix {
                name: UnixName::Path(path),
                ..
            } => Some(path),
            _ => None,
        }
    }

    /// Whether the kernel gives only one of the two addresses away. No name is looked up.
    pub(crate) fn clash(&self, other: &Self) -> Option<Clash> {
        match (&self.0, &other.0) {
            (
                Kind::Ip {
                    transport,
                    place,
                    port,
                },
                Kind::Ip {
                    transport: other_transport,
                    place: other_place,
                    port: other_port,
                },
            ) if transport == other_transport && port == other_port && *port != 0 => {
                place.clash(other_place)
            }
            (
                Kind::Unix { transport, name },
                Kind::Unix {
                    transport: other_transport,
                    name: other_name,
                },
            ) => {
                // A file is one file, whatever its socket is. Names that are no files are
                // apart for streams and datagrams.
                let is_file = matches!(name, UnixName::Path(_));
                let is_same = name == other_name && (is_file || transport == other_transport);
                is_same.then_some(Clash::Same)
            }
            (Kind::Inherited(one), Kind::Inherited(other)) if one == other => Some(Clash::Same),
            _ => None,
        }
    }

    /// Whether listening there makes the file of a Unix socket.
    pub(crate) fn is_socket_file(&self) -> bool {
        let name = match &self.0 {
            Kind::Unix { name, .. } => name,
            Kind::Ip { .. } | Kind::Inherited(_) => return false,
        };
        matches!(name, UnixName::Path(_))
    }

    /// Whether it is bound to a port.
    pub(crate) fn is_ip(&self) -> bool {
        matches!(self.0, Kind::Ip { .. })
    }

    /// Returns advice for a failed lookup.
    fn advice(&self) -> &'static str {
        match &self.0 {
            Kind::Ip {
                place: Place::Host(host),
                ..
            } => host.advice(),
            _ => "",
        }
    }
}

/// What is wrong with a text. Empty if the general advice says it all.
type Reason = String;

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).map_err(|mut reason| {
            if !reason.is_empty() {
                reason.push_str("; ");
            }
            AddressError::Syntax {
                address: text.to_owned(),
                reason,
            }
        })
    }
}

fn parse(text: &str) -> Result<ListenAddress, Reason> {
    let (scheme, rest) = text.split_once(':').ok_or_else(Reason::new)?;
    let authority = rest.strip_prefix("//");
    let kind = match (scheme.to_ascii_lowercase().as_str(), authority) {
        ("tcp", Some(place)) => ip(Transport::Tcp, place)?,
        ("udp", Some(place)) => ip(Transport::Udp, place)?,
        ("unix", _) => unix(Transport::Unix, rest)?,
        ("unix+dgram", _) => unix(Transport::UnixDatagram, rest)?,
        ("fd", Some(which)) => Kind::Inherited(inherited(which)?),
        _ => return Err(Reason::new()),
    };
    Ok(ListenAddress(kind))
}

/// Reads `HOST:PORT`.
fn ip(transport: Transport, text: &str) -> Result<Kind, Reason> {
    let reason = |wrong| match wrong {
        Wrong::Syntax => Reason::new(),
        wrong => wrong.to_string(),
    };
    let (host, port) = host_port::split(text).map_err(reason)?;
    let place = match host {
        "*" => Place::Any,
        host => Place::Host(Host::parse(host).map_err(reason)?),
    };
    Ok(Kind::Ip {
        transport,
        place,
        port: host_port::port(port).map_err(reason)?,
    })
}

/// Reads what follows the colon: `///PATH`, `PATH` or `@NAME`.
fn unix(transport: Transport, text: &str) -> Result<Kind, Reason> {
    let bytes = match text.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path.as_bytes().to_vec(),
        Some(path) => {
            return Err(format!(
                "a path after // begins with /; write {transport}:{path}, or {transport}:///PATH",
                path = text::escape(path)
            ));
        }
        None => match text.strip_prefix('@') {
            Some(name) => [&[0], name.as_bytes()].concat(),
            None => text.as_bytes().to_vec(),
        },
    };
    let length = bytes.strip_prefix(&[0]).unwrap_or(&bytes).len();
    if !(1..=MAX_PATH).contains(&length) {
        return Err(format!(
            "the path or name of a Unix socket has 1 to {MAX_PATH} bytes, and this one has {length}"
        ));
    }
    let name = UnixName::from_bytes(&bytes);
    Ok(Kind::Unix { transport, name })
}

/// Reads `N` or `NAME`.
fn inherited(text: &str) -> Result<Inherited, Reason> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = text.parse().ok();
        let number = number.filter(|number: &i32| number.to_string() == text);
        return match number {
            Some(number @ 3..) => Ok(Inherited::Number(number)),
            Some(_) => Err(
                "the descriptors 0 to 2 are standard input and output; `sockserve inetd` serves 0"
                    .to_owned(),
            ),
            None => Err("a descriptor is a number from 3 on, or a name".to_owned()),
        };
    }
    // sd_listen_fds_with_names(3): no control characters and no colon.
    let is_name = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b':');
    let is_number = text.parse::<i128>().is_ok();
    if is_name && !is_number && text.len() <= 255 {
        Ok(Inherited::Name(text.to_owned()))
    } else {
        Err(
            "the name of a descriptor has 1 to 255 characters, without spaces and colons"
                .to_owned(),
        )
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Ip {
                transport,
                place,
                port,
            } => match place {
                Place::Any => write!(f, "{transport}://*:{port}"),
                Place::Host(host) => write!(f, "{transport}://{host}:{port}"),
            },
            Kind::Unix { transport, name } => {
                LocalAddress::of_unix(*transport, name.clone()).fmt(f)
            }
            Kind::Inherited(Inherited::Number(number)) => write!(f, "fd://{number}"),
            Kind::Inherited(Inherited::Name(name)) => write!(f, "fd://{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_addresses_and_names() {
        for text in [
            "tcp://127.0.0.1:7000",
            "tcp://[::1]:0",
            "tcp://localhost:65535",
            "tcp://0.0.0.0:1",
            "tcp://[fe80::1%lo]:0",
            "tcp://[fe80::1%1]:0",
            "tcp://*:80",
            "udp://127.0.0.1:53",
            "udp://*:0",
            "unix:///run/x.sock",
            "unix:x.sock",
            "unix:./@x",
            "unix:@name",
            "unix:@a b",
            "unix+dgram:///run/a%20b",
            "unix+dgram:@x",
            "fd://3",
            "fd://2147483647",
            "fd://my.socket",
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let address: ListenAddress = "TcP://[0:0::1]:80".parse().unwrap();
        assert_eq!(address.to_string(), "tcp://[::1]:80");
        let address: ListenAddress = "UNIX+Dgram:///x".parse().unwrap();
        assert_eq!(address.to_string(), "unix+dgram:///x");
        let longest = format!("unix:@{}", "x".repeat(MAX_PATH));
        assert_eq!(
            longest.parse::<ListenAddress>().unwrap().to_string(),
            longest
        );
    }

    #[test]
    fn addresses_that_are_in_each_others_way_are_known() {
        for (one, other, clash) in [
            (
                "tcp://127.0.0.1:80",
                "TCP://127.0.0.1:80",
                Some(Clash::Same),
            ),
            ("tcp://127.0.0.1:80", "udp://127.0.0.1:80", None),
            ("tcp://127.0.0.1:80", "tcp://127.0.0.2:80", None),
            ("tcp://127.0.0.1:80", "tcp://127.0.0.1:81", None),
            ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", None),
            ("tcp://*:0", "tcp://*:0", None),
            ("tcp://[::1]:80", "tcp://[0:0::1]:80", Some(Clash::Same)),
            (
                "tcp://0.0.0.0:80",
                "tcp://127.0.0.1:80",
                Some(Clash::Within),
            ),
            (
                "udp://127.0.0.1:80",
                "udp://0.0.0.0:80",
                Some(Clash::Within),
            ),
            ("tcp://[::]:80", "tcp://[::1]:80", Some(Clash::Within)),
            ("tcp://[::]:80", "tcp://127.0.0.1:80", None),
            ("tcp://0.0.0.0:80", "tcp://[::]:80", None),
            ("tcp://*:80", "tcp://[::1]:80", Some(Clash::Within)),
            ("tcp://*:80", "tcp://localhost:80", Some(Clash::Within)),
            ("tcp://*:80", "tcp://*:80", Some(Clash::Same)),
            (
                "tcp://Localhost:80",
                "tcp://localhost:80",
                Some(Clash::Same),
            ),
            ("tcp://localhost:80", "tcp://127.0.0.1:80", None),
            ("unix:///x", "unix:/x", Some(Clash::Same)),
            ("unix:///x", "unix+dgram:///x", Some(Clash::Same)),
            ("unix:@x", "unix:@x", Some(Clash::Same)),
            ("unix:@x", "unix+dgram:@x", None),
            ("unix:@x", "unix:x", None),
            ("fd://3", "fd://3", Some(Clash::Same)),
            ("fd://3", "fd://4", None),
        ] {
            let parse = |text: &str| text.parse::<ListenAddress>().unwrap();
            assert_eq!(parse(one).clash(&parse(other)), clash, "{one} {other}");
            assert_eq!(parse(other).clash(&parse(one)), clash, "{other} {one}");
        }
    }

    #[test]
    fn refuses_everything_else_and_says_what_to_write() {
        for text in [
            "",
            "127.0.0.1:7000",
            "tcp://",
            "tcp://127.0.0.1",
            "tcp://127.0.0.1:",
            "tcp://127.0.0.1:65536",
            "tcp://127.0.0.1:-1",
            "tcp://127.0.0.1:+0",
            "tcp://127.0.0.1:080",
            "tcp://127.1:80",
            "tcp://:7000",
            "tcp://::1:7000",
            "tcp://[::1:7000",
            "tcp://[[::1]]:0",
            "tcp://[[[::1]:0",
            "tcp://[::1]]:0",
            "tcp://[nonsense]:7000",
            "tcp://[fe80::1]:7000",
            "tcp://localhost%lo:7000",
            "tcp://%6c:7000",
            "http://127.0.0.1:80",
            "tcp://127.0.0.1:80/path",
            "tcp://127.0.0.1:80 ",
            " tcp://127.0.0.1:80",
            "tcp:/127.0.0.1:80",
            "tcp://a\nb:80",
            "tcp://\u{2028}:80",
            "ŧcp://x:80",
            "tcp:/é/x:80",
            "tcp:127.0.0.1:80",
            "udp:127.0.0.1:53",
            "udp://*",
            "tcp://**:1",
            "unix:",
            "unix:@",
            "unix://",
            "unix://@name",
            "unix://run/x.sock",
            "unix+stream:///x",
            "unixgram:///x",
            "fd:3",
            "fd://",
            "fd://2",
            "fd://-3",
            "fd://03",
            "fd://2147483648",
            "fd://a b",
            "fd://a:b",
            &format!("unix:{}", "x".repeat(MAX_PATH + 1)),
            &format!("unix:@{}", "x".repeat(MAX_PATH + 1)),
            &format!("fd://{}", "x".repeat(256)),
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains("write tcp://HOST:PORT"), "{text}: {error}");
            assert!(error.chars().all(text::is_plain), "{text}: {error}");
        }
        let error = "tcp://[fe80::1]:0".parse::<ListenAddress>().unwrap_err();
        assert!(error.to_string().contains("[fe80::1%ZONE]"), "{error}");
        let check = |text: &str, expected: &str| {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        check("unix://run/x", "write unix:run/x, or unix:///PATH");
        check("unix:", "has 1 to 107 bytes, and this one has 0");
        check("fd://0", "`sockserve inetd` serves 0");
    }
}
