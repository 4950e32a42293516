//! Where a service listens: `tcp://HOST:PORT`.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// An address to listen on, as it is written on the command line.
///
/// `HOST` is an IPv4 address, an IPv6 address in brackets, or a name. A name is
/// looked up once, when the service starts, and the first address found is
/// used. Port 0 lets the kernel choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    host: String,
    port: u16,
}

/// Why a listen address was refused.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The text is not `tcp://HOST:PORT`.
    #[error(
        "`{0}` is no listen address: write tcp://HOST:PORT, for example tcp://127.0.0.1:7000 or tcp://[::1]:0"
    )]
    Syntax(String),
    /// The name has no address.
    #[error("{0}: no address found: {1}")]
    Lookup(ListenAddress, std::io::Error),
}

impl ListenAddress {
    /// Looks the host up and returns its first address.
    pub fn resolve(&self) -> Result<SocketAddr, AddressError> {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let found = (host, self.port)
            .to_socket_addrs()
            .map_err(|error| AddressError::Lookup(self.clone(), error))?
            .next();
        found.ok_or_else(|| AddressError::Lookup(self.clone(), std::io::ErrorKind::NotFound.into()))
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let syntax = || AddressError::Syntax(text.to_owned());
        let rest = text.strip_prefix("tcp://").ok_or_else(syntax)?;
        let (host, port) = rest.rsplit_once(':').ok_or_else(syntax)?;
        let port = port.parse().map_err(|_| syntax())?;
        // Brackets are what tells the colons of an IPv6 address from the port's.
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let valid = if bracketed {
            host.trim_start_matches('[')
                .trim_end_matches(']')
                .parse::<std::net::Ipv6Addr>()
                .is_ok()
        } else {
            !host.is_empty() && !host.contains([':', '/', '[', ']'])
        };
        if !valid {
            return Err(syntax());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tcp://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::ListenAddress;

    #[test]
    fn accepts_addresses_and_names() {
        for text in [
            "tcp://127.0.0.1:7000",
            "tcp://[::1]:0",
            "tcp://localhost:65535",
            "tcp://0.0.0.0:1",
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
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
            "tcp://:7000",
            "tcp://::1:7000",
            "tcp://[::1:7000",
            "tcp://[nonsense]:7000",
            "http://127.0.0.1:80",
            "tcp://127.0.0.1:80/path",
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains("write tcp://HOST:PORT"), "{text}: {error}");
            assert!(!error.contains('\n'), "{text}: {error}");
        }
    }
}
