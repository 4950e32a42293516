//! The grammar of `HOST:PORT` on the command line.
//!
//! `HOST` is an IPv4 address, an IPv6 address in brackets, or a name. A link-local
//! IPv6 address needs a zone: the name or the number of the interface, as in
//! `[fe80::1%eth0]`. The grammar is strict: a text that two programs could read in
//! two ways (`127.1`, `080`, `[[::1]]`) is refused.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, ToSocketAddrs};

/// The longest name in the DNS and the longest label of a name, in bytes.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
/// The longest name of a network interface, in bytes.
const MAX_INTERFACE: usize = 15;

/// A host as it was written, before the lookup of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    V4(Ipv4Addr),
    V6(Ipv6Addr, Option<String>),
    Name(String),
}

/// What is wrong with a host or a port, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    /// The text is not `HOST:PORT`. The caller's error says what to write.
    #[error("it is not HOST:PORT")]
    Syntax,
    #[error("a port is a number from 0 to 65535, without sign or leading zero")]
    Port,
    #[error("an IPv4 address is four numbers from 0 to 255, without leading zeros")]
    V4,
    #[error("an IPv6 address stands in brackets, as in [::1]:{0}")]
    Unbracketed(String),
    #[error("there is no IPv6 address in the brackets")]
    V6,
    #[error(
        "{0} is link-local and needs the zone that it is in: write [{0}%ZONE], where ZONE is the \
         name or the number of the interface, for example [{0}%eth0]"
    )]
    NoZone(Ipv6Addr),
    #[error("only a link-local address has a zone: write [{0}]")]
    Zone(Ipv6Addr),
    #[error("a zone is the name or the number of an interface, for example %eth0 or %2")]
    ZoneName,
}

/// Splits `HOST:PORT` at the colon before the port.
pub(crate) fn split(text: &str) -> Result<(&str, &str), Wrong> {
    let (host, port) = text.rsplit_once(':').ok_or(Wrong::Syntax)?;
    if host.is_empty() || port.is_empty() {
        return Err(Wrong::Syntax);
    }
    Ok((host, port))
}

/// Parses a port: a number from 0 to 65535, in its only permitted spelling.
pub(crate) fn port(text: &str) -> Result<u16, Wrong> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Wrong::Port);
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(Wrong::Port);
    }
    text.parse().map_err(|_| Wrong::Port)
}

impl Host {
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(rest) = text.strip_prefix('[') {
            return v6(rest.strip_suffix(']').ok_or(Wrong::Syntax)?);
        }
        if text.contains(':') && text.parse::<Ipv6Addr>().is_ok() {
            return Err(Wrong::Unbracketed("PORT".to_owned()));
        }
        if ends_in_a_number(text) {
            return text.parse().map(Self::V4).map_err(|_| Wrong::V4);
        }
        if is_name(text) {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(Wrong::Syntax)
        }
    }

    /// Whether the host is an address, so that no lookup is needed.
    pub(crate) fn is_address(&self) -> bool {
        !matches!(self, Self::Name(_))
    }

    /// Returns advice for a failed lookup.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::V6(_, Some(_)) => "its zone is no interface of this machine; write one that is",
            _ => "write an address, or a name that resolves",
        }
    }

    /// Returns all addresses of the host with a port, each address once. A name is
    /// looked up, which may take long.
    pub(crate) fn resolve(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        let host = match self {
            Self::V4(ip) => return Ok(vec![(*ip, port).into()]),
            Self::V6(ip, None) => return Ok(vec![(*ip, port).into()]),
            Self::V6(ip, Some(zone)) => match zone.parse() {
                Ok(index) => return Ok(vec![SocketAddrV6::new(*ip, port, 0, index).into()]),
                // The system's resolver knows the names of interfaces.
                Err(_) => format!("{ip}%{zone}"),
            },
            Self::Name(name) => name.clone(),
        };
        let mut found: Vec<SocketAddr> = Vec::new();
        for address in (host.as_str(), port).to_socket_addrs()? {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        if found.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(found)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(ip) => write!(f, "{ip}"),
            Self::V6(ip, None) => write!(f, "[{ip}]"),
            Self::V6(ip, Some(zone)) => write!(f, "[{ip}%{zone}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Parses the text between the brackets.
fn v6(text: &str) -> Result<Host, Wrong> {
    let (ip, zone) = match text.split_once('%') {
        Some((ip, zone)) => (ip, Some(zone)),
        None => (text, None),
    };
    let ip: Ipv6Addr = ip.parse().map_err(|_| Wrong::V6)?;
    match zone {
        None if ip.is_unicast_link_local() => Err(Wrong::NoZone(ip)),
        None => Ok(Host::V6(ip, None)),
        Some(_) if !ip.is_unicast_link_local() => Err(Wrong::Zone(ip)),
        Some(zone) if is_zone(zone) => Ok(Host::V6(ip, Some(zone.to_owned()))),
        Some(_) => Err(Wrong::ZoneName),
    }
}

/// Whether the text is the name of an interface, or the number of one. Numbers
/// begin at 1.
fn is_zone(text: &str) -> bool {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return !text.starts_with('0') && text.parse::<u32>().is_ok();
    }
    text.len() <= MAX_INTERFACE
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/:%[]".contains(&byte))
}

/// Whether a resolver would read the text as an IPv4 address, in the usual form or
/// in an old one (`127.1`, `0x7f000001`).
fn ends_in_a_number(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let last = text.rsplit('.').next().unwrap_or(text);
    let hexadecimal = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    match hexadecimal {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn is_name(text: &str) -> bool {
    let labels = text.strip_suffix('.').unwrap_or(text);
    let is_character = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(is_character)
    };
    labels.len() <= MAX_NAME && labels.split('.').all(is_label)
}

/// Whether the address of a connection is the address that was meant. An address
/// without a zone matches every zone.
pub(crate) fn is_same(meant: &SocketAddr, address: &SocketAddr) -> bool {
    let zone = |address: &SocketAddr| match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let ip = |address: &SocketAddr| -> IpAddr { address.ip().to_canonical() };
    ip(meant) == ip(address) && (zone(meant) == 0 || zone(meant) == zone(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_told_apart() {
        let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
        let check = |text: &str, expected: Host| {
            assert_eq!(Host::parse(text), Ok(expected), "{text}");
        };
        check("127.0.0.1", Host::V4(Ipv4Addr::LOCALHOST));
        check("[::1]", Host::V6(v6("::1"), None));
        check("[::ffff:1.2.3.4]", Host::V6(v6("::ffff:1.2.3.4"), None));
        check("[fe80::1%lo]", Host::V6(v6("fe80::1"), Some("lo".into())));
        check("[FE80::1%1]", Host::V6(v6("fe80::1"), Some("1".into())));
        check(
            "[fe80::1%eth0.1@x-y_z]",
            Host::V6(v6("fe80::1"), Some("eth0.1@x-y_z".into())),
        );
        for name in [
            "localhost",
            "a.b-c.example.",
            "1.2.3.four",
            "_x",
            "0xg",
            "9a",
        ] {
            check(name, Host::Name(name.into()));
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let long = "a".repeat(64);
        let longer = vec!["a"; 128].join(".");
        let check = |text: &str, expected: Wrong| {
            assert_eq!(Host::parse(text), Err(expected), "{text:?}");
        };
        for text in [
            "",
            ".",
            "a..b",
            "a b",
            " a",
            "a ",
            "a/b",
            "-a",
            "a%b",
            "[",
            "[]x",
            "[::1",
            "::1]",
            "ä.example",
            "a\n",
            "*",
            "a:b",
            &long,
            &longer,
            "user@host",
        ] {
            check(text, Wrong::Syntax);
        }
        for text in [
            "127.1",
            "1",
            "127.0.0.01",
            "0127.0.0.1",
            "0x7f.1",
            "0x7f000001",
            "1.2.3.4.5",
            "256.0.0.1",
            "127.0.0.1.",
            "0x",
            "a.1",
        ] {
            check(text, Wrong::V4);
        }
        for text in [
            "[]",
            "[[::1]]",
            "[[::1]",
            "[::1]]",
            "[127.0.0.1]",
            "[nonsense]",
            "[::1 ]",
            "[%lo]",
            "[1::2::3]",
        ] {
            check(text, Wrong::V6);
        }
        check("::1", Wrong::Unbracketed("PORT".into()));
        let link_local: Ipv6Addr = "fe80::1".parse().unwrap();
        check("[fe80::1]", Wrong::NoZone(link_local));
        check("[::1%lo]", Wrong::Zone(Ipv6Addr::LOCALHOST));
        for zone in [
            "",
            "0",
            "01",
            "4294967296",
            "a/b",
            "a b",
            "a%b",
            "a\n",
            "sixteen-letters-",
        ] {
            check(&format!("[fe80::1%{zone}]"), Wrong::ZoneName);
        }
    }

    #[test]
    fn a_port_is_written_in_one_way() {
        for (text, expected) in [("0", 0), ("80", 80), ("65535", 65535)] {
            assert_eq!(port(text), Ok(expected));
        }
        for text in [
            "",
            "+80",
            "-1",
            "080",
            "00",
            "65536",
            "http",
            "8 0",
            "٣",
            "0x50",
            "99999999999",
        ] {
            assert_eq!(port(text), Err(Wrong::Port), "{text}");
        }
    }

    #[test]
    fn a_host_is_written_as_it_was() {
        for text in [
            "127.0.0.1",
            "[::1]",
            "[fe80::1%lo]",
            "[fe80::1%3]",
            "localhost",
        ] {
            assert_eq!(Host::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_zone_is_looked_up_and_kept() {
        let check = |text: &str, expected: &str| {
            let found = Host::parse(text).unwrap().resolve(7).unwrap();
            assert_eq!(found, [expected.parse().unwrap()], "{text}");
        };
        check("127.0.0.1", "127.0.0.1:7");
        check("[::1]", "[::1]:7");
        check("[fe80::1%3]", "[fe80::1%3]:7");
        // The first interface of every machine, and of every network namespace.
        check("[fe80::1%lo]", "[fe80::1%1]:7");
        let nowhere = Host::parse("[fe80::1%no-interface]").unwrap();
        assert!(nowhere.resolve(7).is_err());
    }

    #[test]
    fn a_zone_tells_addresses_apart() {
        let check = |meant: &str, address: &str, expected| {
            let same = is_same(&meant.parse().unwrap(), &address.parse().unwrap());
            assert_eq!(same, expected, "{meant} {address}");
        };
        check("127.0.0.1:0", "127.0.0.1:80", true);
        check("127.0.0.1:0", "[::ffff:127.0.0.1]:80", true);
        check("127.0.0.1:0", "127.0.0.2:80", false);
        check("[fe80::1%2]:0", "[fe80::1%2]:80", true);
        check("[fe80::1%2]:0", "[fe80::1%3]:80", false);
        check("[fe80::1%2]:0", "[fe80::1]:80", false);
    }
}
