//! What a handler may do beyond the connections it is given: nothing, but what
//! is granted here by name.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::filesystem::{WasiFilesystemCtx, WasiFilesystemView};
use wasmtime_wasi::sockets::SocketAddrUse;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// The grants of one service. By default there are none: no environment, no
/// files, no connection outwards, no name lookup. Clocks and random numbers are
/// always there.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    /// Environment variables, as the guest sees them.
    pub env: Vec<(String, String)>,
    /// Directories.
    pub dirs: Vec<DirGrant>,
    /// Where the guest may connect to over TCP.
    pub connect: Vec<ConnectGrant>,
    /// Whether the guest may look names up.
    pub lookup: bool,
}

/// A directory of the host that the guest may read and write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirGrant {
    /// The directory on the host.
    pub host: PathBuf,
    /// Its name in the guest.
    pub guest: String,
}

/// A place that the guest may connect to, resolved when it is granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectGrant {
    text: String,
    /// Nothing stands for any address.
    addresses: Option<HashSet<IpAddr>>,
    /// Nothing stands for any port.
    port: Option<u16>,
}

/// Why a grant was refused.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// `--env` without a name.
    #[error("`{0}` is no environment variable: write NAME=VALUE")]
    Env(String),
    /// `--dir` with an empty part.
    #[error("`{0}` is no directory grant: write HOST_DIR or HOST_DIR::GUEST_DIR")]
    Dir(String),
    /// `--dir` names nothing that can be opened.
    #[error("cannot grant the directory {0}: {1}; name a directory that exists and can be read")]
    DirUnusable(PathBuf, String),
    /// `--allow-connect` is not a place.
    #[error(
        "`{0}` is no place to connect to: write HOST:PORT; `*` stands for any host or any port"
    )]
    Connect(String),
    /// `--allow-connect` names an unknown host.
    #[error("--allow-connect {0}: no address found: {1}; write an address or a name that resolves")]
    Lookup(String, std::io::Error),
}

impl Grants {
    /// Parses `NAME=VALUE`.
    pub fn parse_env(text: &str) -> Result<(String, String), GrantError> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(GrantError::Env(text.to_owned())),
        }
    }

    /// Opens every granted directory, so that a wrong one is told at the start and
    /// not to some peer's connection. All instances share what is opened here: it
    /// costs no descriptor per connection, and stays the same directory if another
    /// one is put in its place.
    pub(crate) fn open(&self) -> Result<Files, GrantError> {
        let mut builder = WasiCtxBuilder::new();
        for dir in &self.dirs {
            let unusable = |reason: String| GrantError::DirUnusable(dir.host.clone(), reason);
            std::fs::read_dir(&dir.host).map_err(|error| unusable(error.to_string()))?;
            builder
                .preopened_dir(&dir.host, &dir.guest, FsPerms::ReadWrite)
                .map_err(|error| unusable(error.root_cause().to_string()))?;
        }
        let mut files = Opened(builder.build(), ResourceTable::new());
        Ok(Files(files.filesystem().ctx.clone()))
    }

    /// Whether an instance may open files or sockets of its own.
    pub(crate) fn opens(&self) -> bool {
        !self.dirs.is_empty() || !self.connect.is_empty()
    }

    /// Puts the grants into the context of an instance, all but the directories.
    pub(crate) fn apply(self: &Arc<Self>, builder: &mut WasiCtxBuilder) {
        builder.envs(&self.env);
        builder.allow_ip_name_lookup(self.lookup);
        builder.allow_udp(false);
        builder.allow_tcp(!self.connect.is_empty());
        if !self.connect.is_empty() {
            let grants = Arc::clone(self);
            builder.socket_addr_check(move |address, purpose| {
                let allowed = grants.allows(address, purpose);
                Box::pin(async move { allowed })
            });
        }
    }

    /// The one place where a guest's own sockets are allowed or denied.
    fn allows(&self, address: SocketAddr, purpose: SocketAddrUse) -> bool {
        match purpose {
            // The kernel's choice of a local address, which a connect needs.
            SocketAddrUse::TcpBind => address.ip().is_unspecified() && address.port() == 0,
            SocketAddrUse::TcpConnect => self.connect.iter().any(|grant| grant.covers(address)),
            SocketAddrUse::TcpListen
            | SocketAddrUse::TcpAccept
            | SocketAddrUse::UdpBind
            | SocketAddrUse::UdpSend
            | SocketAddrUse::UdpReceive => false,
        }
    }
}

/// The granted directories, open.
#[derive(Clone)]
pub(crate) struct Files(WasiFilesystemCtx);

impl Files {
    /// Gives them to an instance.
    pub(crate) fn give_to(&self, instance: &mut impl WasiFilesystemView) {
        *instance.filesystem().ctx = self.0.clone();
    }
}

/// What opens directories: wasmtime-wasi does so for an instance only.
struct Opened(WasiCtx, ResourceTable);

impl WasiView for Opened {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.0,
            table: &mut self.1,
        }
    }
}

impl FromStr for DirGrant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (host, guest) = text.split_once("::").unwrap_or((text, text));
        if host.is_empty() || guest.is_empty() {
            return Err(GrantError::Dir(text.to_owned()));
        }
        Ok(Self {
            host: host.into(),
            guest: guest.to_owned(),
        })
    }
}

impl ConnectGrant {
    fn covers(&self, address: SocketAddr) -> bool {
        self.port.is_none_or(|port| port == address.port())
            && self
                .addresses
                .as_ref()
                .is_none_or(|addresses| addresses.contains(&address.ip().to_canonical()))
    }
}

impl FromStr for ConnectGrant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let syntax = || GrantError::Connect(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(syntax)?;
        let port = match port {
            "*" => None,
            port => Some(port.parse().map_err(|_| syntax())?),
        };
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let addresses = match bare {
            None if host == "*" => None,
            None if host.is_empty() || host.contains([':', '/', '[', ']']) => {
                return Err(syntax());
            }
            Some(bare) => Some([bare.parse().map_err(|_| syntax())?].into()),
            None => Some(
                (host, 0)
                    .to_socket_addrs()
                    .map_err(|error| GrantError::Lookup(text.to_owned(), error))?
                    .map(|address| address.ip().to_canonical())
                    .collect(),
            ),
        };
        Ok(Self {
            text: text.to_owned(),
            addresses,
            port,
        })
    }
}

impl fmt::Display for ConnectGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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
    fn a_wrong_grant_says_what_to_write() {
        for text in [
            "", "80", "host", ":80", "host:", "host:x", "::1:80", "[x]:80",
        ] {
            let error = text.parse::<ConnectGrant>().unwrap_err().to_string();
            assert!(error.contains("write HOST:PORT"), "{text}: {error}");
        }
        assert!(Grants::parse_env("=x").is_err());
        assert!(Grants::parse_env("x").is_err());
        assert_eq!(
            Grants::parse_env("A=b=c").unwrap(),
            ("A".to_owned(), "b=c".to_owned())
        );
        assert!("::/data".parse::<DirGrant>().is_err());
        let dir: DirGrant = "/srv/data::/data".parse().unwrap();
        assert_eq!((dir.host, dir.guest), ("/srv/data".into(), "/data".into()));
    }
}
