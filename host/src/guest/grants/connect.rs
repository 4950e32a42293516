//! The places that a guest may connect to, listen on, or exchange datagrams with.

use super::GrantError;
use crate::host_port::{self, Host, Wrong, is_same};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// A place that a grant is for, such as one that the guest may connect to. Its name is
/// looked up when the grant is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectGrant {
    place: ConnectPlace,
    /// The addresses of the host; their ports mean nothing. `None` means any
    /// address.
    addresses: Option<Vec<SocketAddr>>,
}

/// A place as it was written, before the lookup of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectPlace {
    /// `None` means any host.
    host: Option<Host>,
    /// `None` means any port.
    port: Option<u16>,
}

impl ConnectPlace {
    /// Looks the host's name up. `option` has granted the place; an error names it.
    pub(crate) fn resolve(&self, option: &'static str) -> Result<ConnectGrant, GrantError> {
        let addresses = match &self.host {
            None => None,
            Some(host) => {
                let found = host.resolve(0);
                Some(found.map_err(|error| GrantError::Lookup {
                    option,
                    place: self.to_string(),
                    error,
                    advice: host.advice(),
                })?)
            }
        };
        Ok(ConnectGrant {
            place: self.clone(),
            addresses,
        })
    }
}

impl FromStr for ConnectPlace {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let wrong = |wrong| GrantError::Connect {
            place: text.to_owned(),
            reason: match wrong {
                Wrong::Syntax => String::new(),
                wrong => format!("{wrong}; "),
            },
        };
        let (host, port) = host_port::split(text).map_err(wrong)?;
        let port = match port {
            "*" => None,
            port => Some(host_port::port(port).map_err(wrong)?),
        };
        let host = match host {
            "*" => None,
            host => Some(Host::parse(host).map_err(wrong)?),
        };
        Ok(Self { host, port })
    }
}

impl fmt::Display for ConnectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{host}:")?,
            None => f.write_str("*:")?,
        }
        match self.port {
            Some(port) => write!(f, "{port}"),
            None => f.write_str("*"),
        }
    }
}

impl ConnectGrant {
    /// Whether the grant permits a connection to `address`.
    pub(super) fn covers(&self, address: SocketAddr) -> bool {
        self.place.port.is_none_or(|port| port == address.port()) && self.covers_host(address)
    }

    /// Whether the grant permits to listen on `address`, which a socket is bound to. The
    /// system has chosen the port, if the grant is for port 0.
    pub(super) fn covers_bound(&self, address: SocketAddr) -> bool {
        self.covers(address) || (self.place.port == Some(0) && self.covers_host(address))
    }

    fn covers_host(&self, address: SocketAddr) -> bool {
        self.addresses
            .as_ref()
            .is_none_or(|granted| granted.iter().any(|granted| is_same(granted, &address)))
    }
}

impl FromStr for ConnectGrant {
    type Err = GrantError;

    /// Looks the host's name up, which may take long.
    fn from_str(text: &str) -> Result<Self, GrantError> {
        text.parse::<ConnectPlace>()?.resolve("--allow-connect")
    }
}

impl fmt::Display for ConnectGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(grant: &str, address: &str) -> bool {
        let grant: ConnectGrant = grant.parse().unwrap();
        grant.covers(address.parse().unwrap())
    }

    #[test]
    fn a_connect_grant_covers_what_it_names() {
        assert!(covers("127.0.0.1:80", "127.0.0.1:80"));
        assert!(!covers("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!covers("127.0.0.1:80", "127.0.0.2:80"));
        assert!(covers("127.0.0.1:*", "127.0.0.1:81"));
        assert!(covers("*:80", "[::1]:80"));
        assert!(!covers("*:80", "[::1]:81"));
        assert!(covers("[::1]:80", "[::1]:80"));
        assert!(covers("127.0.0.1:80", "[::ffff:127.0.0.1]:80"));
        assert!(covers("localhost:80", "127.0.0.1:80") || covers("localhost:80", "[::1]:80"));
    }

    #[test]
    fn a_wrong_grant_says_what_to_write() {
        for text in [
            "",
            "80",
            "host",
            ":80",
            "host:",
            "host:x",
            "::1:80",
            "[x]:80",
            "[[::1]]:80",
            "127.0.0.1:+80",
            "127.0.0.1:080",
            "127.1:80",
            "[fe80::1]:80",
            "**:80",
            "a b:80",
        ] {
            let error = text.parse::<ConnectGrant>().unwrap_err().to_string();
            assert!(error.contains("write HOST:PORT"), "{text}: {error}");
        }
        let link_local: ConnectGrant = "[fe80::1%7]:80".parse().unwrap();
        assert_eq!(link_local.to_string(), "[fe80::1%7]:80");
        assert!(covers("[fe80::1%7]:80", "[fe80::1%7]:80"));
        assert!(!covers("[fe80::1%7]:80", "[fe80::1%8]:80"));
    }
}
