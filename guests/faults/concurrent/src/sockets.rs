//! What a misbehaving guest does with the accepted socket, and with sockets of its own.

use sockserve_handler::p3::{error_name, ip_address, socket_addr};
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use wasip3::sockets::ip_name_lookup::{self, resolve_addresses};
use wasip3::sockets::types::{ErrorCode, IpAddress, IpAddressFamily, TcpSocket};

/// `outbound`: connects to `HOST:PORT`. Returns the answer: whether it worked.
pub(crate) async fn connect(address: &str) -> String {
    let Ok(address) = address.parse::<SocketAddr>() else {
        return "invalid-address\r\n".to_owned();
    };
    let family = match address {
        SocketAddr::V4(_) => IpAddressFamily::Ipv4,
        SocketAddr::V6(_) => IpAddressFamily::Ipv6,
    };
    let connected = match TcpSocket::create(family) {
        Ok(socket) => socket.connect(ip_address(address)).await,
        Err(code) => Err(code),
    };
    match connected {
        Ok(()) => "connected\r\n".to_owned(),
        Err(code) => format!("{}\r\n", error_name(&code)),
    }
}

/// `lookup`: looks up a name. Returns the answer: what was found.
pub(crate) async fn resolve(name: String) -> String {
    match resolve_addresses(name).await {
        Ok(addresses) => addresses
            .into_iter()
            .map(|address| format!("{}\r\n", ip_addr(address)))
            .collect(),
        Err(code) => format!("{}\r\n", lookup_error_name(&code)),
    }
}

fn lookup_error_name(code: &ip_name_lookup::ErrorCode) -> &'static str {
    use ip_name_lookup::ErrorCode;
    match code {
        ErrorCode::AccessDenied => "access-denied",
        ErrorCode::InvalidArgument => "invalid-argument",
        ErrorCode::NameUnresolvable => "name-unresolvable",
        ErrorCode::TemporaryResolverFailure => "temporary-resolver-failure",
        ErrorCode::PermanentResolverFailure => "permanent-resolver-failure",
        ErrorCode::Other(_) => "other",
    }
}

fn ip_addr(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
    }
}

/// Tries every option and every forbidden call of a connected socket whose streams are
/// taken. Returns one line `name=value` per try. The value is what was read, `ok`, or
/// the name of the error.
pub(crate) async fn options(socket: &TcpSocket) -> String {
    let family = match socket.get_address_family() {
        IpAddressFamily::Ipv4 => "ipv4",
        IpAddressFamily::Ipv6 => "ipv6",
    };
    let elsewhere = || ip_address(SocketAddr::from(([127, 0, 0, 1], 1)));
    let mut out = Lines::default();
    out.add("family", Ok(family));
    out.add("is-listening", Ok(socket.get_is_listening()));
    out.add("local-address", socket.get_local_address().map(socket_addr));
    out.add(
        "remote-address",
        socket.get_remote_address().map(socket_addr),
    );
    out.set("keep-alive-enabled", socket.set_keep_alive_enabled(true));
    out.add("keep-alive-enabled", socket.get_keep_alive_enabled());
    out.set(
        "keep-alive-idle-time",
        socket.set_keep_alive_idle_time(30_000_000_000),
    );
    out.add("keep-alive-idle-time", socket.get_keep_alive_idle_time());
    out.set(
        "keep-alive-interval",
        socket.set_keep_alive_interval(5_000_000_000),
    );
    out.add("keep-alive-interval", socket.get_keep_alive_interval());
    out.set("keep-alive-count", socket.set_keep_alive_count(4));
    out.add("keep-alive-count", socket.get_keep_alive_count());
    out.set("hop-limit", socket.set_hop_limit(42));
    out.add("hop-limit", socket.get_hop_limit());
    out.set("receive-buffer-size", socket.set_receive_buffer_size(65536));
    out.add("receive-buffer-size", socket.get_receive_buffer_size());
    out.set("send-buffer-size", socket.set_send_buffer_size(65536));
    out.add("send-buffer-size", socket.get_send_buffer_size());
    out.extreme("keep-alive-idle-time", |value| {
        socket.set_keep_alive_idle_time(value)?;
        socket.get_keep_alive_idle_time()
    });
    out.extreme("keep-alive-interval", |value| {
        socket.set_keep_alive_interval(value)?;
        socket.get_keep_alive_interval()
    });
    out.extreme("keep-alive-count", |value| {
        socket.set_keep_alive_count(u32::try_from(value).unwrap_or(u32::MAX))?;
        socket.get_keep_alive_count().map(u64::from)
    });
    out.extreme("hop-limit", |value| {
        socket.set_hop_limit(u8::try_from(value).unwrap_or(u8::MAX))?;
        socket.get_hop_limit().map(u64::from)
    });
    // The sizes that the kernel sets differ between machines.
    out.extreme("receive-buffer-size", |value| {
        socket.set_receive_buffer_size(value)?;
        socket.get_receive_buffer_size().map(|size| size.min(1))
    });
    out.extreme("send-buffer-size", |value| {
        socket.set_send_buffer_size(value)?;
        socket.get_send_buffer_size().map(|size| size.min(1))
    });
    out.add("bind", socket.bind(elsewhere()).map(|()| "ok"));
    out.add("connect", socket.connect(elsewhere()).await.map(|()| "ok"));
    out.add("listen", socket.listen().map(|_| "ok"));
    let (_input, received) = socket.receive();
    out.add("receive-again", received.await.map(|()| "ok"));
    let (_output, data) = wasip3::wit_stream::new();
    let sent = socket.send(data);
    out.add("send-again", sent.await.map(|()| "ok"));
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
            Err(code) => format!("{name}={}\r\n", error_name(&code)),
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
