//! Datagrams whose answers could be answered without end (CVE-1999-0103).

use core::net::SocketAddr;

/// The ports of the small services of inetd.
const SMALL_SERVICES: [u16; 5] = [7, 13, 17, 19, 37];

/// Whether a datagram comes from a small service, or from a socket of this command.
pub(crate) fn is_loop(peer: SocketAddr, own: impl IntoIterator<Item = SocketAddr>) -> bool {
    SMALL_SERVICES.contains(&peer.port())
        || own.into_iter().any(|own| {
            own.port() == peer.port()
                && (own.ip() == peer.ip() || own.ip().is_unspecified() && peer.ip().is_loopback())
        })
}
