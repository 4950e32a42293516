//! The socket options of WASI, on an accepted connection.
//!
//! The units are those of WASI: nanoseconds and bytes. Zero is refused. Any other
//! value that is out of range is clamped, as the interface says.

use crate::connection::Connection;
use crate::connection::peer::Peer;
use rustix::io::Errno;
use rustix::net::sockopt;
use std::net::SocketAddr;
use std::time::Duration;

type Result<T> = std::result::Result<T, Errno>;

/// The largest keep-alive time of Linux, in seconds.
const MAX_KEEP_ALIVE_SECONDS: u64 = 32767;
/// The largest number of keep-alive probes of Linux.
const MAX_KEEP_ALIVE_COUNT: u32 = 127;

impl Connection {
    pub(super) fn keep_alive_enabled(&self) -> Result<bool> {
        sockopt::socket_keepalive(self)
    }

    pub(super) fn set_keep_alive_enabled(&self, value: bool) -> Result<()> {
        sockopt::set_socket_keepalive(self, value)
    }

    pub(super) fn keep_alive_idle_time(&self) -> Result<u64> {
        sockopt::tcp_keepidle(self).map(nanoseconds)
    }

    pub(super) fn set_keep_alive_idle_time(&self, value: u64) -> Result<()> {
        sockopt::set_tcp_keepidle(self, keep_alive_time(value)?)
    }

    pub(super) fn keep_alive_interval(&self) -> Result<u64> {
        sockopt::tcp_keepintvl(self).map(nanoseconds)
    }

    pub(super) fn set_keep_alive_interval(&self, value: u64) -> Result<()> {
        sockopt::set_tcp_keepintvl(self, keep_alive_time(value)?)
    }

    pub(super) fn keep_alive_count(&self) -> Result<u32> {
        sockopt::tcp_keepcnt(self)
    }

    pub(super) fn set_keep_alive_count(&self, value: u32) -> Result<()> {
        let value = not_zero(value)?.min(MAX_KEEP_ALIVE_COUNT);
        sockopt::set_tcp_keepcnt(self, value)
    }

    pub(super) fn hop_limit(&self) -> Result<u8> {
        match self.peer() {
            Peer::Ip(SocketAddr::V4(_)) => {
                sockopt::ip_ttl(self)?.try_into().map_err(|_| Errno::INVAL)
            }
            Peer::Ip(SocketAddr::V6(_)) => sockopt::ipv6_unicast_hops(self),
            Peer::Unix { .. } => Err(Errno::OPNOTSUPP),
        }
    }

    pub(super) fn set_hop_limit(&self, value: u8) -> Result<()> {
        let value = not_zero(value)?;
        match self.peer() {
            Peer::Ip(SocketAddr::V4(_)) => sockopt::set_ip_ttl(self, value.into()),
            Peer::Ip(SocketAddr::V6(_)) => sockopt::set_ipv6_unicast_hops(self, Some(value)),
            Peer::Unix { .. } => Err(Errno::OPNOTSUPP),
        }
    }

    pub(super) fn receive_buffer_size(&self) -> Result<u64> {
        sockopt::socket_recv_buffer_size(self).map(halved)
    }

    pub(super) fn set_receive_buffer_size(&self, value: u64) -> Result<()> {
        sockopt::set_socket_recv_buffer_size(self, buffer_size(value)?)
    }

    pub(super) fn send_buffer_size(&self) -> Result<u64> {
        sockopt::socket_send_buffer_size(self).map(halved)
    }

    pub(super) fn set_send_buffer_size(&self, value: u64) -> Result<()> {
        sockopt::set_socket_send_buffer_size(self, buffer_size(value)?)
    }
}

fn not_zero<T: Default + PartialEq>(value: T) -> Result<T> {
    if value == T::default() {
        return Err(Errno::INVAL);
    }
    Ok(value)
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Returns whole seconds, at least one: the kernel would read a fraction of a
/// second as zero.
fn keep_alive_time(nanoseconds: u64) -> Result<Duration> {
    let seconds = not_zero(nanoseconds)?.div_ceil(1_000_000_000);
    Ok(Duration::from_secs(seconds.min(MAX_KEEP_ALIVE_SECONDS)))
}

/// Returns half of a buffer size: Linux doubles the size that was asked for, and
/// reports the double (socket(7)).
fn halved(size: usize) -> u64 {
    size as u64 / 2
}

fn buffer_size(value: u64) -> Result<usize> {
    let value = not_zero(value)?.min(i32::MAX as u64 / 2);
    usize::try_from(value).map_err(|_| Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_times_are_whole_seconds_in_range() {
        let check = |nanoseconds, seconds| {
            let time = keep_alive_time(nanoseconds).unwrap();
            assert_eq!(time, Duration::from_secs(seconds), "{nanoseconds}");
        };
        check(1, 1);
        check(1_000_000_000, 1);
        check(1_000_000_001, 2);
        check(u64::MAX, MAX_KEEP_ALIVE_SECONDS);
        assert_eq!(keep_alive_time(0), Err(Errno::INVAL));
    }

    #[test]
    fn buffer_sizes_are_clamped_and_never_zero() {
        assert_eq!(buffer_size(0), Err(Errno::INVAL));
        assert_eq!(buffer_size(1), Ok(1));
        assert_eq!(buffer_size(u64::MAX), Ok(i32::MAX as usize / 2));
    }
}
