//! Where a service listens: `tcp://HOST:PORT`.

use crate::host_port::{self, Host, Wrong};
use crate::text;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

/// An address to listen on, as it is written on the command line.
///
/// `HOST` is an IPv4 address, an IPv6 address in brackets, or a name. A link-local IPv6
/// address has a zone, the name or number of its interface (`[fe80::1%eth0]`). A name
/// is looked up once, when the service starts; the service listens on all its
/// addresses, on one port. Port 0 lets the kernel choose. The scheme may be written in
/// capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    host: Host,
    port: u16,
}

/// Why a listen address was refused. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The text is not `tcp://HOST:PORT`.
    #[error(
        "`{address}` is no listen address: {reason}write tcp://HOST:PORT, for example \
         tcp://127.0.0.1:7000 or tcp://[::1]:0",
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
    #[error("{0}: no address found: {1}; {advice}", advice = .0.host.advice())]
    Lookup(ListenAddress, #[source] io::Error),
    /// An address was given before, with the same port.
    #[error("{0}: {1} is given twice; each address and port can be listened on once")]
    Twice(ListenAddress, SocketAddr),
}

impl ListenAddress {
    /// Looks the host up. Returns all its addresses, each of them once.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, AddressError> {
        let found = self.host.resolve(self.port);
        found.map_err(|error| AddressError::Lookup(self.clone(), error))
    }

    /// Whether the host is a name, so that the text does not show its addresses.
    pub(crate) fn is_name(&self) -> bool {
        !self.host.is_address()
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        const SCHEME: &str = "tcp://";
        let syntax = |wrong| AddressError::Syntax {
            address: text.to_owned(),
            reason: match wrong {
                Wrong::Syntax => String::new(),
                wrong => format!("{wrong}; "),
            },
        };
        let (scheme, rest) = text
            .split_at_checked(SCHEME.len())
            .ok_or_else(|| syntax(Wrong::Syntax))?;
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Err(syntax(Wrong::Syntax));
        }
        let (host, port) = host_port::split(rest).map_err(syntax)?;
        Ok(Self {
            host: Host::parse(host).map_err(syntax)?,
            port: host_port::port(port).map_err(syntax)?,
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
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let address: ListenAddress = "TcP://[0:0::1]:80".parse().unwrap();
        assert_eq!(address.to_string(), "tcp://[::1]:80");
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
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains("write tcp://HOST:PORT"), "{text}: {error}");
            assert!(error.chars().all(text::is_plain), "{text}: {error}");
        }
        let error = "tcp://[fe80::1]:0".parse::<ListenAddress>().unwrap_err();
        assert!(error.to_string().contains("[fe80::1%ZONE]"), "{error}");
    }
}
