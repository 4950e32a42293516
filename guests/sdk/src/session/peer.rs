//! Who is at the other end of a connection, as the protocols show it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// The peer of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A peer with an Internet address.
    Ip(SocketAddr),
    /// A peer over a Unix socket, which seldom has an address.
    Unix {
        /// The user. `None` if it is not known.
        uid: Option<u32>,
        /// The number of the connection, which tells two peers of one user apart.
        connection: u64,
    },
    /// A peer that sends datagrams from a Unix socket, by the name of that socket.
    Named(String),
}

impl Peer {
    /// What a log shows: the IP address, or `uidUID`.
    pub fn host(&self) -> String {
        match self {
            Self::Ip(address) => address.ip().to_string(),
            Self::Unix { uid, .. } => match uid {
                Some(uid) => format!("uid{uid}"),
                None => "unix".to_owned(),
            },
            Self::Named(name) => name.clone(),
        }
    }
}

impl<A: Into<SocketAddr>> From<A> for Peer {
    fn from(address: A) -> Self {
        Self::Ip(address.into())
    }
}

impl fmt::Display for Peer {
    /// `HOST:PORT`; for a Unix socket `uidUID:CONNECTION` or its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix { connection, .. } => write!(f, "{}:{connection}", self.host()),
            Self::Named(name) => f.write_str(name),
        }
    }
}

impl FromStr for Peer {
    type Err = String;

    /// Reads the peer of a connection.
    fn from_str(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "HOST:PORT or uidUID:CONNECTION";
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let (host, connection) = text.split_once(':').ok_or(EXPECTED)?;
        let uid = match host.strip_prefix("uid") {
            Some(uid) => Some(uid.parse().map_err(|_| EXPECTED)?),
            None if host == "unix" => None,
            None => return Err(EXPECTED.to_owned()),
        };
        let connection = connection.parse().map_err(|_| EXPECTED)?;
        let peer = Self::Unix { uid, connection };
        // A number has one spelling.
        if peer.to_string() == text {
            Ok(peer)
        } else {
            Err(EXPECTED.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_one_spelling() {
        for (text, host) in [
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("uid0:18446744073709551615", "uid0"),
            ("unix:7", "unix"),
        ] {
            let peer: Peer = text.parse().unwrap();
            assert_eq!(
                (peer.to_string().as_str(), peer.host().as_str()),
                (text, host)
            );
        }
        for text in [
            "", "uid:1", "uid1", "uid01:1", "uid1:+1", "unix:", "unix:1\n", "x:1",
        ] {
            assert!(text.parse::<Peer>().is_err(), "{text:?}");
        }
    }
}
