//! What a program of the contract `command` gets to know: its name, and who its peer is.
//!
//! The variables are those of ucspi-tcp and ucspi-unix, which programs know that are
//! started by tcpserver, unixserver, or `s6-tcpserver`.

use crate::component::builtin;
use crate::connection::Connection;
use crate::connection::peer::Peer;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// The name of a program, which is its first argument: that of its file.
pub(super) fn name(source: &str) -> &str {
    let source = source.strip_prefix(builtin::PREFIX).unwrap_or(source);
    let file = Path::new(source).file_name().and_then(|it| it.to_str());
    file.unwrap_or(source)
}

/// The variables that describe a connection.
pub(super) fn environment(connection: &Arc<Connection>) -> Vec<(String, String)> {
    let local = connection.local_address().unwrap_or_default();
    of(
        connection.peer(),
        connection.local_ip().ok().flatten(),
        local,
    )
}

fn of(peer: &Peer, local: Option<SocketAddr>, local_name: String) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut add = |name: &str, value: String| all.push((name.to_owned(), value));
    match peer {
        Peer::Ip(peer) => {
            add("PROTO", "TCP".to_owned());
            add("TCPREMOTEIP", peer.ip().to_canonical().to_string());
            add("TCPREMOTEPORT", peer.port().to_string());
            if let Some(local) = local {
                add("TCPLOCALIP", local.ip().to_canonical().to_string());
                add("TCPLOCALPORT", local.port().to_string());
            }
        }
        Peer::Unix { name, credentials } => {
            add("PROTO", "UNIX".to_owned());
            add("UNIXLOCALPATH", local_name);
            add("UNIXREMOTEPATH", name.to_string());
            if let Some(credentials) = credentials {
                if let Some(pid) = credentials.pid {
                    add("UNIXREMOTEPID", pid.to_string());
                }
                add("UNIXREMOTEEUID", credentials.uid.to_string());
                add("UNIXREMOTEEGID", credentials.gid.to_string());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::peer::Credentials;
    use crate::socket_name::UnixName;

    fn lines(all: &[(String, String)]) -> Vec<String> {
        let line = |(name, value): &(String, String)| format!("{name}={value}");
        all.iter().map(line).collect()
    }

    #[test]
    fn a_program_is_named_after_its_file() {
        for (source, expected) in [
            ("dir/upper.wasm", "upper.wasm"),
            ("builtin:upper-command", "upper-command"),
            ("/", "/"),
        ] {
            assert_eq!(name(source), expected);
        }
    }

    #[test]
    fn the_variables_are_those_of_ucspi() {
        let peer = Peer::Ip("[::ffff:10.0.0.1]:5000".parse().unwrap());
        let local = Some("[::ffff:10.0.0.2]:23".parse().unwrap());
        let expected = [
            "PROTO=TCP",
            "TCPREMOTEIP=10.0.0.1",
            "TCPREMOTEPORT=5000",
            "TCPLOCALIP=10.0.0.2",
            "TCPLOCALPORT=23",
        ];
        assert_eq!(lines(&of(&peer, local, String::new())), expected);
        let peer = Peer::Unix {
            name: UnixName::from_bytes(b""),
            credentials: Some(Credentials {
                pid: Some(7),
                uid: 1000,
                gid: 100,
            }),
        };
        let expected = [
            "PROTO=UNIX",
            "UNIXLOCALPATH=/run/x",
            "UNIXREMOTEPATH=",
            "UNIXREMOTEPID=7",
            "UNIXREMOTEEUID=1000",
            "UNIXREMOTEEGID=100",
        ];
        assert_eq!(lines(&of(&peer, None, "/run/x".to_owned())), expected);
    }
}
