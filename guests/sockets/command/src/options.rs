//! Every option of a socket, set and read back.

use crate::of;
use wasi::sockets::network::{ErrorCode, IpAddressFamily};
use wasi::sockets::tcp_create_socket::create_tcp_socket;
use wasi::sockets::udp_create_socket::create_udp_socket;

const SECOND: u64 = 1_000_000_000;

/// Prints each option with what it is after it was set.
pub(crate) fn set_and_read(kind: &str) -> Result<(), String> {
    match kind {
        "tcp4" => tcp(IpAddressFamily::Ipv4),
        "tcp6" => tcp(IpAddressFamily::Ipv6),
        "udp4" => udp(IpAddressFamily::Ipv4),
        "udp6" => udp(IpAddressFamily::Ipv6),
        _ => Err(format!("{kind} is no kind of socket")),
    }
}

fn tcp(family: IpAddressFamily) -> Result<(), String> {
    let socket = of("socket", create_tcp_socket(family))?;
    println!("family {}", version(socket.address_family()));
    println!("listening {}", socket.is_listening());
    of("backlog", socket.set_listen_backlog_size(5))?;
    show("hop-limit", socket.set_hop_limit(33), || socket.hop_limit())?;
    let enabled = socket.set_keep_alive_enabled(true);
    show("keep-alive", enabled, || socket.keep_alive_enabled())?;
    let idle = socket.set_keep_alive_idle_time(30 * SECOND);
    show("keep-alive-idle", idle, || socket.keep_alive_idle_time())?;
    let interval = socket.set_keep_alive_interval(5 * SECOND);
    show("keep-alive-interval", interval, || {
        socket.keep_alive_interval()
    })?;
    let count = socket.set_keep_alive_count(4);
    show("keep-alive-count", count, || socket.keep_alive_count())?;
    let size = socket.set_receive_buffer_size(65_536);
    show("receive-buffer", size, || socket.receive_buffer_size())?;
    let size = socket.set_send_buffer_size(65_536);
    show("send-buffer", size, || socket.send_buffer_size())?;
    refused("backlog 0", socket.set_listen_backlog_size(0));
    refused("hop-limit 0", socket.set_hop_limit(0));
    refused("keep-alive-idle 0", socket.set_keep_alive_idle_time(0));
    refused("keep-alive-interval 0", socket.set_keep_alive_interval(0));
    refused("keep-alive-count 0", socket.set_keep_alive_count(0));
    refused("receive-buffer 0", socket.set_receive_buffer_size(0));
    refused("send-buffer 0", socket.set_send_buffer_size(0));
    Ok(())
}

fn udp(family: IpAddressFamily) -> Result<(), String> {
    let socket = of("socket", create_udp_socket(family))?;
    println!("family {}", version(socket.address_family()));
    show("hop-limit", socket.set_unicast_hop_limit(33), || {
        socket.unicast_hop_limit()
    })?;
    let size = socket.set_receive_buffer_size(65_536);
    show("receive-buffer", size, || socket.receive_buffer_size())?;
    let size = socket.set_send_buffer_size(65_536);
    show("send-buffer", size, || socket.send_buffer_size())?;
    refused("hop-limit 0", socket.set_unicast_hop_limit(0));
    refused("receive-buffer 0", socket.set_receive_buffer_size(0));
    refused("send-buffer 0", socket.set_send_buffer_size(0));
    Ok(())
}

fn version(family: IpAddressFamily) -> &'static str {
    match family {
        IpAddressFamily::Ipv4 => "ipv4",
        IpAddressFamily::Ipv6 => "ipv6",
    }
}

fn show<T: ToString>(
    name: &str,
    set: Result<(), ErrorCode>,
    read: impl FnOnce() -> Result<T, ErrorCode>,
) -> Result<(), String> {
    of(name, set)?;
    let value = of(name, read())?;
    println!("{name} {}", value.to_string());
    Ok(())
}

/// Prints how a value is refused.
fn refused(what: &str, set: Result<(), ErrorCode>) {
    let how = set.map_or_else(|code| code.name(), |()| "accepted");
    println!("{what}: {how}");
}
