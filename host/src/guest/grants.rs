//! What a handler may do beyond the connections it is given: nothing, but what
//! is granted here by name.

use crate::host_port::{self, Host, Wrong, is_same};
use crate::text;
use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
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
#[non_exhaustive]
pub struct Grants {
    /// Environment variables, as the guest sees them. Of a name that is there
    /// twice the last value counts.
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
    place: ConnectPlace,
    /// Their ports mean nothing. `None` stands for any address.
    addresses: Option<Vec<SocketAddr>>,
}

/// A place as it is written, not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConnectPlace {
    /// `None` stands for any host.
    host: Option<Host>,
    /// `None` stands for any port.
    port: Option<u16>,
}

/// Why a grant was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// `--env` without a name.
    #[error("`{}` is no environment variable: write NAME=VALUE", text::escape(.0))]
    Env(String),
    /// `--dir` with an empty part, or with a name that no guest can be told.
    #[error(
        "`{}` is no directory grant: {reason}write HOST_DIR or HOST_DIR::GUEST_DIR",
        text::escape_bytes(.grant)
    )]
    Dir {
        /// The bytes of the text.
        grant: Vec<u8>,
        /// What is wrong with it, if that is to be said; with a semicolon behind.
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
    /// `--dir` names nothing that can be opened.
    #[error(
        "cannot grant the directory {directory}: {1}; name a directory that exists and can be read",
        directory = text::path(.0)
    )]
    DirUnusable(PathBuf, String),
    /// `--allow-connect` is not a place.
    #[error(
        "`{}` is no place to connect to: {reason}write HOST:PORT; `*` stands for any host or any port",
        text::escape(.place)
    )]
    Connect {
        /// The text.
        place: String,
        /// What is wrong with it, if that is to be said; with a semicolon behind.
        reason: String,
    },
    /// `--allow-connect` names an unknown host.
    #[error("--allow-connect {place}: no address found: {error}; {advice}")]
    Lookup {
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

    /// Refuses two directories under one name: a guest would see only one.
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

    /// Opens every granted directory, so that a wrong one is told at the start and
    /// not to some peer's connection. All instances share what is opened here: it
    /// costs no descriptor per connection, and stays the same directory if another
    /// one is put in its place.
    pub(crate) fn open(&self) -> Result<Files, GrantError> {
        self.check_names()?;
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
        for (at, (name, value)) in self.env.iter().enumerate() {
            let mut later = self.env.iter().skip(at + 1);
            // A guest sees all of them, and its libc takes the first.
            if !later.any(|(later, _)| later == name) {
                builder.env(name, value);
            }
        }
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

impl DirGrant {
    /// Parses `HOST_DIR` or `HOST_DIR::GUEST_DIR`. The directory on the host may
    /// be any path; its name in the guest is UTF-8.
    pub fn parse(grant: &OsStr) -> Result<Self, GrantError> {
        let bytes = grant.as_bytes();
        let refused = |reason| GrantError::Dir {
            grant: bytes.to_owned(),
            reason,
        };
        let cut = bytes.windows(2).position(|pair| pair == b"::");
        let (host, guest) = match cut {
            Some(at) => (bytes.get(..at), bytes.get(at + 2..)),
            None => (Some(bytes), Some(bytes)),
        };
        let (host, guest) = (host.unwrap_or_default(), guest.unwrap_or_default());
        if host.is_empty() || guest.is_empty() {
            return Err(refused(""));
        }
        let Ok(name) = std::str::from_utf8(guest) else {
            return Err(refused("its name in the guest has to be UTF-8; "));
        };
        Ok(Self {
            host: OsStr::from_bytes(host).into(),
            guest: name.to_owned(),
        })
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
        Self::parse(text.as_ref())
    }
}

impl ConnectPlace {
    /// Looks the host up.
    pub(crate) fn resolve(&self) -> Result<ConnectGrant, GrantError> {
        let addresses = match &self.host {
            None => None,
            Some(host) => {
                let found = host.resolve(0);
                Some(found.map_err(|error| GrantError::Lookup {
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
    fn covers(&self, address: SocketAddr) -> bool {
        self.place.port.is_none_or(|port| port == address.port())
            && self
                .addresses
                .as_ref()
                .is_none_or(|granted| granted.iter().any(|granted| is_same(granted, &address)))
    }
}

impl FromStr for ConnectGrant {
    type Err = GrantError;

    /// Looks the host up, which may take long.
    fn from_str(text: &str) -> Result<Self, GrantError> {
        text.parse::<ConnectPlace>()?.resolve()
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
        assert!(Grants::parse_env("=x").is_err());
        assert!(Grants::parse_env("x").is_err());
        assert_eq!(
            Grants::parse_env("A=b=c").unwrap(),
            ("A".to_owned(), "b=c".to_owned())
        );
        let link_local: ConnectGrant = "[fe80::1%7]:80".parse().unwrap();
        assert_eq!(link_local.to_string(), "[fe80::1%7]:80");
        assert!(covers("[fe80::1%7]:80", "[fe80::1%7]:80"));
        assert!(!covers("[fe80::1%7]:80", "[fe80::1%8]:80"));
        assert!("::/data".parse::<DirGrant>().is_err());
        let dir: DirGrant = "/srv/data::/data".parse().unwrap();
        assert_eq!((dir.host, dir.guest), ("/srv/data".into(), "/data".into()));
    }

    #[test]
    fn a_path_is_bytes_and_its_name_in_the_guest_is_text() {
        let bytes = OsStr::from_bytes;
        let grant = DirGrant::parse(bytes(b"/srv/\xff::/data")).unwrap();
        assert_eq!(grant.host.as_os_str(), bytes(b"/srv/\xff"));
        assert_eq!(grant.guest, "/data");
        for text in [&b"/srv/\xff"[..], b"/srv::/\xff"] {
            let error = DirGrant::parse(bytes(text)).unwrap_err().to_string();
            assert!(error.contains(r"\xff"), "{error}");
            assert!(
                error.contains("UTF-8; write HOST_DIR or HOST_DIR::GUEST_DIR"),
                "{error}"
            );
        }
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
