//! What the misbehaving guests on WASI 0.2 share: what they do with the accepted socket,
//! and with sockets of their own.

mod misuse;

use sockserve_handler::p2::{ip_address, socket_addr};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use wasi::io::poll::Pollable;
use wasi::sockets::instance_network::instance_network;
use wasi::sockets::ip_name_lookup::{ResolveAddressStream, resolve_addresses};
use wasi::sockets::network::{ErrorCode, IpAddress, IpAddressFamily};
use wasi::sockets::tcp::TcpSocket;
use wasi::sockets::tcp_create_socket::create_tcp_socket;

pub use misuse::misuse;

/// An hour in nanoseconds.
pub const LONG: u64 = 3_600_000_000_000;

/// An operation that takes a while.
pub enum Job {
    /// `outbound`.
    Connect(TcpSocket),
    /// `lookup`, with the addresses that have come so far.
    Resolve(ResolveAddressStream, String),
}

impl Job {
    /// Begins to connect to `HOST:PORT`. The error is the answer for the peer.
    pub fn connect(address: &str) -> Result<Self, String> {
        let address = address.parse().map_err(|_| "invalid-address\r\n")?;
        begin_connect(address).map(Self::Connect).map_err(answer)
    }

    /// Begins to look up a name. The error is the answer for the peer.
    pub fn resolve(name: &str) -> Result<Self, String> {
        resolve_addresses(&instance_network(), name)
            .map(|addresses| Self::Resolve(addresses, String::new()))
            .map_err(answer)
    }

    /// Returns the answer for the peer when there is one.
    pub fn poll(&mut self) -> Option<String> {
        match self {
            Self::Connect(socket) => match socket.finish_connect() {
                Ok(_) => Some("connected\r\n".to_owned()),
                Err(ErrorCode::WouldBlock) => None,
                Err(code) => Some(answer(code)),
            },
            Self::Resolve(addresses, found) => loop {
                match addresses.resolve_next_address() {
                    Ok(Some(address)) => *found += &format!("{}\r\n", ip_addr(address)),
                    Ok(None) => return Some(std::mem::take(found)),
                    Err(ErrorCode::WouldBlock) => return None,
                    Err(code) => return Some(answer(code)),
                }
            },
        }
    }

    /// Becomes ready when `poll` may have an answer.
    pub fn subscribe(&self) -> Pollable {
        match self {
            Self::Connect(socket) => socket.subscribe(),
            Self::Resolve(addresses, _) => addresses.subscribe(),
        }
    }
}

fn begin_connect(address: SocketAddr) -> Result<TcpSocket, ErrorCode> {
    let family = match address {
        SocketAddr::V4(_) => IpAddressFamily::Ipv4,
        SocketAddr::V6(_) => IpAddressFamily::Ipv6,
    };
    let socket = create_tcp_socket(family)?;
    socket.start_connect(&instance_network(), ip_address(address))?;
    Ok(socket)
}

fn answer(code: ErrorCode) -> String {
    format!("{}\r\n", code.name())
}

fn ip_addr(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    }
}

/// Tries every option and every forbidden call of a connected socket. Returns one line
/// `name=value` per try. The value is what was read, `ok`, or the name of the error.
pub fn options(socket: &TcpSocket) -> String {
    let family = match socket.address_family() {
        IpAddressFamily::Ipv4 => "ipv4",
        IpAddressFamily::Ipv6 => "ipv6",
    };
    let network = instance_network();
    let elsewhere = || ip_address(SocketAddr::from(([127, 0, 0, 1], 1)));
    let mut out = Lines::default();
    out.add("family", Ok(family));
    out.add("is-listening", Ok(socket.is_listening()));
    out.add("local-address", socket.local_address().map(socket_addr));
    out.add("remote-address", socket.remote_address().map(socket_addr));
    out.set("keep-alive-enabled", socket.set_keep_alive_enabled(true));
    out.add("keep-alive-enabled", socket.keep_alive_enabled());
    out.set(
        "keep-alive-idle-time",
        socket.set_keep_alive_idle_time(30_000_000_000),
    );
    out.add("keep-alive-idle-time", socket.keep_alive_idle_time());
    out.set(
        "keep-alive-interval",
        socket.set_keep_alive_interval(5_000_000_000),
    );
    out.add("keep-alive-interval", socket.keep_alive_interval());
    out.set("keep-alive-count", socket.set_keep_alive_count(4));
    out.add("keep-alive-count", socket.keep_alive_count());
    out.set("hop-limit", socket.set_hop_limit(42));
    out.add("hop-limit", socket.hop_limit());
    out.set("receive-buffer-size", socket.set_receive_buffer_size(65536));
    out.add("receive-buffer-size", socket.receive_buffer_size());
    out.set("send-buffer-size", socket.set_send_buffer_size(65536));
    out.add("send-buffer-size", socket.send_buffer_size());
    out.extreme("keep-alive-idle-time", |value| {
        socket.set_keep_alive_idle_time(value)?;
        socket.keep_alive_idle_time()
    });
    out.extreme("keep-alive-interval", |value| {
        socket.set_keep_alive_interval(value)?;
        socket.keep_alive_interval()
    });
    out.extreme("keep-alive-count", |value| {
        socket.set_keep_alive_count(u32::try_from(value).unwrap_or(u32::MAX))?;
        socket.keep_alive_count().map(u64::from)
    });
    out.extreme("hop-limit", |value| {
        socket.set_hop_limit(u8::try_from(value).unwrap_or(u8::MAX))?;
        socket.hop_limit().map(u64::from)
    });
    // The sizes that the kernel sets differ between machines.
    out.extreme("receive-buffer-size", |value| {
        socket.set_receive_buffer_size(value)?;
        socket.receive_buffer_size().map(|size| size.min(1))
    });
    out.extreme("send-buffer-size", |value| {
        socket.set_send_buffer_size(value)?;
        socket.send_buffer_size().map(|size| size.min(1))
    });
    out.add(
        "bind",
        socket.start_bind(&network, elsewhere()).map(|()| "ok"),
    );
    out.add(
        "connect",
        socket.start_connect(&network, elsewhere()).map(|()| "ok"),
    );
    out.add("listen", socket.start_listen().map(|()| "ok"));
    out.add("accept", socket.accept().map(|_| "ok"));
    out.text
}

#[derive(Default)]
struct Lines {
    text: String,
}

impl Lines {
    fn add(&mut self, name: &str, value: Result<impl Display, ErrorCode>) {
        self.text += &match value {
            Ok(value) => format!("{name}={value}\r\n"),
            Err(code) => format!("{name}={}\r\n", code.name()),
        };
    }

    fn set(&mut self, name: &str, result: Result<(), ErrorCode>) {
        self.add(&format!("set-{name}"), result.map(|()| "ok"));
    }

    /// Tries zero, one and the largest value.
    fn extreme(&mut self, name: &str, set: impl Fn(u64) -> Result<u64, ErrorCode>) {
        for (which, value) in [("zero", 0), ("one", 1), ("max", u64::MAX)] {
            self.add(&format!("{name}-{which}"), set(value));
        }
    }
}
