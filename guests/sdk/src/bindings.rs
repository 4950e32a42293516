//! What the bindings of WASI 0.2 and 0.3 have alike, as macros over a module of bindings.
//!
//! Each takes the visibility of what it makes. Nothing of the standard library is used, so
//! the runners can have them too.

/// Conversions between the addresses of a module of bindings and those of the standard
/// library, whose text is `HOST:PORT`.
#[doc(hidden)]
#[macro_export]
macro_rules! addresses {
    ($visibility:vis, $($types:tt)*) => {
        /// The family of an address.
        $visibility fn family(address: core::net::SocketAddr) -> $($types)*::IpAddressFamily {
            match address {
                core::net::SocketAddr::V4(_) => $($types)*::IpAddressFamily::Ipv4,
                core::net::SocketAddr::V6(_) => $($types)*::IpAddressFamily::Ipv6,
            }
        }

        /// An address as WASI has it.
        $visibility fn ip_address(address: core::net::SocketAddr) -> $($types)*::IpSocketAddress {
            match address {
                core::net::SocketAddr::V4(address) => {
                    $($types)*::IpSocketAddress::Ipv4($($types)*::Ipv4SocketAddress {
                        port: address.port(),
                        address: address.ip().octets().into(),
                    })
                }
                core::net::SocketAddr::V6(address) => {
                    $($types)*::IpSocketAddress::Ipv6($($types)*::Ipv6SocketAddress {
                        port: address.port(),
                        flow_info: address.flowinfo(),
                        address: address.ip().segments().into(),
                        scope_id: address.scope_id(),
                    })
                }
            }
        }

        /// An address as the standard library has it.
        $visibility fn socket_addr(address: $($types)*::IpSocketAddress) -> core::net::SocketAddr {
            match address {
                $($types)*::IpSocketAddress::Ipv4(address) => {
                    let (a, b, c, d) = address.address;
                    (core::net::Ipv4Addr::new(a, b, c, d), address.port).into()
                }
                $($types)*::IpSocketAddress::Ipv6(address) => {
                    let (a, b, c, d, e, f, g, h) = address.address;
                    let ip = core::net::Ipv6Addr::new(a, b, c, d, e, f, g, h);
                    let (port, flow) = (address.port, address.flow_info);
                    core::net::SocketAddrV6::new(ip, port, flow, address.scope_id).into()
                }
            }
        }
    };
}

/// The name of an error code of `wasi:sockets` 0.3, as the WIT has it. In 0.2 the
/// bindings have it.
#[doc(hidden)]
#[macro_export]
macro_rules! error_name {
    ($visibility:vis, $($types:tt)*) => {
        /// The name of an error, as the WIT has it.
        $visibility fn error_name(code: &$($types)*::ErrorCode) -> &str {
            use $($types)*::ErrorCode;
            match code {
                ErrorCode::AccessDenied => "access-denied",
                ErrorCode::NotSupported => "not-supported",
                ErrorCode::InvalidArgument => "invalid-argument",
                ErrorCode::OutOfMemory => "out-of-memory",
                ErrorCode::Timeout => "timeout",
                ErrorCode::InvalidState => "invalid-state",
                ErrorCode::AddressNotBindable => "address-not-bindable",
                ErrorCode::AddressInUse => "address-in-use",
                ErrorCode::RemoteUnreachable => "remote-unreachable",
                ErrorCode::ConnectionRefused => "connection-refused",
                ErrorCode::ConnectionBroken => "connection-broken",
                ErrorCode::ConnectionReset => "connection-reset",
                ErrorCode::ConnectionAborted => "connection-aborted",
                ErrorCode::DatagramTooLarge => "datagram-too-large",
                ErrorCode::Other(text) => text.as_deref().unwrap_or("other"),
            }
        }
    };
}
