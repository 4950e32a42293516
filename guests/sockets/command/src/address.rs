//! Addresses of WASI as those of the standard library, and back.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wasi::sockets::network::IpAddress;

sockserve_handler::addresses!(pub(crate), wasi::sockets::network);

pub(crate) fn ip(address: IpAddress) -> IpAddr {
    match address {
        IpAddress::Ipv4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => Ipv6Addr::new(a, b, c, d, e, f, g, h).into(),
    }
}
