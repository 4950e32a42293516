//! What a handler may do beyond its connections. By default that is nothing; every
//! permission is granted here by name.

mod connect;
mod directory;

use crate::text;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

pub use connect::ConnectGrant;
pub(crate) use connect::ConnectPlace;
pub use directory::DirGrant;
pub(crate) use directory::Files;

/// The grants of one service. By default there are none: no environment, no files,
/// no outgoing connections, no name lookup. Clocks and random numbers are always
/// available.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Grants {
    /// Arguments, after the program's name.
    pub args: Vec<String>,
    /// Environment variables, as the guest sees them. If a name appears twice, the
    /// last value counts.
    pub env: Vec<(String, String)>,
    /// Directories that the guest may use.
    pub dirs: Vec<DirGrant>,
    /// Places that the guest may connect to over TCP.
    pub connect: Vec<ConnectGrant>,
    /// Places that the guest may send datagrams to, whether they have written to the
    /// service or not.
    pub send: Vec<ConnectGrant>,
    /// Addresses of this machine that the guest may listen on over TCP. Port 0 is any
    /// free port.
    pub listen: Vec<ConnectGrant>,
    /// Places that the guest's own UDP sockets may be bound to, and exchange datagrams
    /// with.
    pub udp: Vec<ConnectGrant>,
    /// Whether the guest may look names up.
    pub lookup: bool,
    /// Whether a refusal is logged as a warning, with the grant that would do. By default
    /// the log has it for debugging: a peer may be able to cause it.
    pub tell_refusals: bool,
}

/// Why a grant was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// `--env` has no name.
    #[error("`{}` is no environment variable: write NAME=VALUE", text::escape(.0))]
    Env(String),
    /// `--dir` has an empty part, or a name that cannot be given to a guest.
    #[error(
        "`{}` is no directory grant: {reason}write HOST_DIR or HOST_DIR::GUEST_DIR",
        text::escape_bytes(.grant)
    )]
    Dir {
        /// The bytes of the argument.
        grant: Vec<u8>,
        /// What is wrong with it, followed by a semicolon; may be empty.
        reason: &'static str,
    },
    /// Two directories have the same name in the guest.
    #[error(
        "{} and {} are both granted as {}; name one of them otherwise, with HOST_DIR::GUEST_DIR",
        text::path(.first), text::path(.second), text::escape(.guest)
    )]
    DirTwice {
        /// The name.
        guest: String,
        /// One of the directories.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// `--dir` names a directory that cannot be opened.
    #[error(
        "cannot grant the directory {directory}: {1}; name a directory that exists and can be read",
        directory = text::path(.0)
    )]
    DirUnusable(PathBuf, String),
    /// The argument of `--allow-connect` or another option like it is not a place.
    #[error(
        "`{}` is no place on the network: {reason}write HOST:PORT; `*` stands for any host or any port",
        text::escape(.place)
    )]
    Connect {
        /// The text.
        place: String,
        /// What is wrong with it, followed by a semicolon; may be empty.
        reason: String,
    },
    /// `--allow-connect` or another option like it names an unknown host.
    #[error("{option} {place}: no address found: {error}; {advice}")]
    Lookup {
        /// The option.
        option: &'static str,
        /// The place.
        place: String,
        /// What the system said.
        error: std::io::Error,
        /// What helps.
        advice: &'static str,
    },
}

impl Grants {
    /// Parses `NAME=VALUE`.
    pub fn parse_env(text: &str) -> Result<(String, String), GrantError> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(GrantError::Env(text.to_owned())),
        }
    }

    /// Refuses two directories under one name: a guest would see only one of them.
    pub(crate) fn check_names(&self) -> Result<(), GrantError> {
        let name = |grant: &DirGrant| match grant.guest.trim_end_matches('/') {
            "" => "/".to_owned(),
            name => name.to_owned(),
        };
        for (at, second) in self.dirs.iter().enumerate() {
            let mut before = self.dirs.iter().take(at);
            if let Some(first) = before.find(|first| name(first) == name(second)) {
                return Err(GrantError::DirTwice {
                    guest: name(second),
                    first: first.host.clone(),
                    second: second.host.clone(),
                });
            }
        }
        Ok(())
    }

    /// Opens every granted directory, so that a wrong one is reported at the start
    /// and not at some connection. All instances share the opened directories: they
    /// cost no descriptors per connection, and stay the same directories if others
    /// take their places.
    pub(crate) fn open(&self) -> Result<Files, GrantError> {
        self.check_names()?;
        Files::open(&self.dirs)
    }

    /// Whether an instance may open files or sockets of its own.
    pub(crate) fn may_open(&self) -> bool {
        !self.dirs.is_empty() || self.may_use_sockets()
    }

    /// Whether a guest may have sockets of its own.
    fn may_use_sockets(&self) -> bool {
        !(self.connect.is_empty() && self.listen.is_empty() && self.udp.is_empty())
    }

    /// Adds the grants to the context of an instance, except for the directories. The
    /// instance has `variables` in any case.
    pub(crate) fn apply(
        self: &Arc<Self>,
        builder: &mut WasiCtxBuilder,
        variables: &[(String, String)],
    ) {
        builder.args(&self.args);
        let all = || self.env.iter().chain(variables);
        for (at, (name, value)) in all().enumerate() {
            let mut later = all().skip(at + 1);
            // The guest would see both values, and its libc takes the first.
            if !later.any(|(later, _)| later == name) {
                builder.env(name, value);
            }
        }
        builder.allow_ip_name_lookup(self.lookup);
        // Otherwise nothing is asked of `allows`, which says what is refused.
        let asks = self.may_use_sockets() || self.tell_refusals;
        builder.allow_udp(!self.udp.is_empty() || self.tell_refusals);
        builder.allow_tcp(asks);
        if asks {
            let grants = Arc::clone(self);
            builder.socket_addr_check(move |address, purpose| {
                let allowed = grants.allows(address, purpose);
                if !allowed {
                    grants.tell(address, purpose);
                }
                Box::pin(async move { allowed })
            });
        }
    }

    /// Whether the guest may send datagrams there unasked.
    pub(crate) fn covers_send(&self, peer: SocketAddr) -> bool {
        self.send.iter().any(|grant| grant.covers(peer))
    }

    /// Whether a guest's own socket may do this. Every such decision is made here.
    fn allows(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        let covers = |grants: &[ConnectGrant]| grants.iter().any(|grant| grant.covers(address));
        let is_chosen_by_the_kernel = address.ip().is_unspecified() && address.port() == 0;
        match purpose {
            // A connect needs a bind to a local address that the kernel chooses.
            SocketAddrUse::TcpBind => is_chosen_by_the_kernel || covers(&self.listen),
            SocketAddrUse::TcpConnect => covers(&self.connect),
            // The address is bound already, which was allowed for port 0.
            SocketAddrUse::TcpListen => self.listen.iter().any(|it| it.covers_bound(address)),
            // Who may listen may accept everybody.
            SocketAddrUse::TcpAccept => !self.listen.is_empty(),
            SocketAddrUse::UdpBind => {
                (is_chosen_by_the_kernel && !self.udp.is_empty()) || covers(&self.udp)
            }
            SocketAddrUse::UdpSend | SocketAddrUse::UdpReceive => covers(&self.udp),
        }
    }

    /// Logs a refusal, with the grant that would do.
    fn tell(&self, address: SocketAddr, purpose: SocketAddrUse) {
        let (what, option) = match purpose {
            SocketAddrUse::TcpBind => ("bind to", "--allow-listen"),
            SocketAddrUse::TcpConnect => ("connect to", "--allow-connect"),
            SocketAddrUse::TcpListen => ("listen on", "--allow-listen"),
            SocketAddrUse::TcpAccept => ("accept", "--allow-listen"),
            SocketAddrUse::UdpBind => ("bind a UDP socket to", "--allow-udp"),
            SocketAddrUse::UdpSend => ("send datagrams to", "--allow-udp"),
            SocketAddrUse::UdpReceive => ("receive datagrams of", "--allow-udp"),
        };
        let said = format!("denied: {what} {address}; {option} {address} would grant it");
        if self.tell_refusals {
            tracing::warn!("{said}");
        } else {
            tracing::debug!("{said}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name() {
        assert!(Grants::parse_env("=x").is_err());
        assert!(Grants::parse_env("x").is_err());
        assert_eq!(
            Grants::parse_env("A=b=c").unwrap(),
            ("A".to_owned(), "b=c".to_owned())
        );
    }

    #[test]
    fn only_what_a_granted_connect_needs_is_allowed() {
        let grants = Grants {
            connect: vec!["127.0.0.1:80".parse().unwrap()],
            ..Grants::default()
        };
        let allows = |address: &str, purpose| grants.allows(address.parse().unwrap(), purpose);
        assert!(allows("127.0.0.1:80", SocketAddrUse::TcpConnect));
        assert!(allows("0.0.0.0:0", SocketAddrUse::TcpBind));
        assert!(!allows("0.0.0.0:80", SocketAddrUse::TcpBind));
        assert!(!allows("127.0.0.1:0", SocketAddrUse::TcpBind));
        assert!(!allows("127.0.0.1:80", SocketAddrUse::TcpListen));
        assert!(!allows("127.0.0.1:80", SocketAddrUse::UdpSend));
    }

    #[test]
    fn only_what_a_granted_listen_needs_is_allowed() {
        let grants = Grants {
            listen: vec![
                "127.0.0.1:80".parse().unwrap(),
                "127.0.0.2:0".parse().unwrap(),
            ],
            ..Grants::default()
        };
        let allows = |address: &str, purpose| grants.allows(address.parse().unwrap(), purpose);
        for purpose in [SocketAddrUse::TcpBind, SocketAddrUse::TcpListen] {
            assert!(allows("127.0.0.1:80", purpose));
            assert!(!allows("127.0.0.1:81", purpose));
            assert!(!allows("0.0.0.0:80", purpose));
        }
        // A port that the kernel has chosen.
        assert!(allows("127.0.0.2:0", SocketAddrUse::TcpBind));
        assert!(!allows("127.0.0.2:81", SocketAddrUse::TcpBind));
        assert!(allows("127.0.0.2:81", SocketAddrUse::TcpListen));
        assert!(!allows("127.0.0.3:81", SocketAddrUse::TcpListen));
        assert!(allows("10.0.0.1:5000", SocketAddrUse::TcpAccept));
        assert!(!allows("127.0.0.1:80", SocketAddrUse::TcpConnect));
        assert!(
            !Grants::default().allows("10.0.0.1:5000".parse().unwrap(), SocketAddrUse::TcpAccept)
        );
    }

    #[test]
    fn only_granted_datagrams_are_allowed() {
        let grants = Grants {
            udp: vec!["127.0.0.1:53".parse().unwrap()],
            ..Grants::default()
        };
        let allows = |address: &str, purpose| grants.allows(address.parse().unwrap(), purpose);
        for purpose in [SocketAddrUse::UdpSend, SocketAddrUse::UdpReceive] {
            assert!(allows("127.0.0.1:53", purpose));
            assert!(!allows("127.0.0.1:54", purpose));
        }
        assert!(allows("0.0.0.0:0", SocketAddrUse::UdpBind));
        assert!(allows("127.0.0.1:53", SocketAddrUse::UdpBind));
        assert!(!allows("0.0.0.0:53", SocketAddrUse::UdpBind));
        let none = Grants::default();
        assert!(!none.allows("0.0.0.0:0".parse().unwrap(), SocketAddrUse::UdpBind));
    }

    #[test]
    fn a_name_in_the_guest_is_given_once() {
        let grants = |dirs: &[&str]| Grants {
            dirs: dirs.iter().map(|dir| dir.parse().unwrap()).collect(),
            ..Grants::default()
        };
        for dirs in [
            ["/tmp::/data", "/srv::/data"],
            ["/tmp::/data", "/srv::/data/"],
            ["/tmp", "/tmp"],
            ["/tmp::/", "/srv:://"],
        ] {
            let error = grants(&dirs).check_names().unwrap_err().to_string();
            assert!(error.contains("HOST_DIR::GUEST_DIR"), "{error}");
        }
        let apart = ["/tmp::/data", "/tmp::/data2", "/tmp::/data/below"];
        assert!(grants(&apart).check_names().is_ok());
    }
}
