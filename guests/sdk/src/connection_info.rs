//! Who is at the other end of a connection. What the host says of it is the same for every
//! contract.
#![allow(missing_docs, reason = "wit-bindgen writes some items without them")]

use crate::session::Peer;
use std::fmt::Display;
use std::net::SocketAddr;

wit_bindgen::generate!({
    inline: "
        package sockserve:sdk;

        world connection-types {
            import sockserve:handler/connection-types@0.1.0;
        }
    ",
    path: "wit",
    with: { "sockserve:handler/connection-types@0.1.0": generate },
    generate_unused_types: true,
});

pub use sockserve::handler::connection_types;

use connection_types::{Info, Transport};

/// All that the host says of a connection: one line `name=value` for each field.
pub fn lines(info: Option<Info>) -> String {
    let Some(info) = info else {
        return "none\r\n".to_owned();
    };
    let mut text = String::new();
    let mut add = |name: &str, value: &dyn Display| text += &format!("{name}={value}\r\n");
    add("connection", &info.connection);
    add("service", &info.service);
    let transport = match info.transport {
        Transport::Tcp => "tcp",
        Transport::Unix => "unix",
    };
    add("transport", &transport);
    add("peer", &info.peer);
    add("local", &info.local);
    match info.credentials {
        None => add("credentials", &"none"),
        Some(it) => {
            match it.pid {
                None => add("pid", &"none"),
                Some(pid) => add("pid", &pid),
            }
            add("uid", &it.uid);
            add("gid", &it.gid);
        }
    }
    text
}

/// The peer of a connection, as protocols show it. The error is one line for the host's
/// log.
pub fn peer(info: Option<Info>) -> Result<Peer, String> {
    let info = info.ok_or("the connection is gone")?;
    match info.transport {
        Transport::Tcp => {
            let address = info.peer.parse::<SocketAddr>();
            let address = address.map_err(|error| format!("the peer's address: {error}"))?;
            Ok(address.into())
        }
        Transport::Unix => Ok(Peer::Unix {
            uid: info.credentials.map(|credentials| credentials.uid),
            connection: info.connection,
        }),
    }
}
