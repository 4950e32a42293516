//! A probe of a handler for datagrams: one datagram there, and its answer.

use crate::connection::register::register;
use crate::datagram::socket::{Bound, Gate, Sockets};
use crate::dispatch::datagram;
use crate::listen::local::Transport;
use crate::version::Version;
use crate::version::versions::Versions;
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::io::Interest;

/// The longest answer that is looked at.
const MAX_ANSWER: usize = 65_535;

/// Sends `data` to a version that is not current, and returns its first answer.
pub(super) async fn ask(
    versions: &Arc<Versions>,
    version: &Arc<Version>,
    transport: Transport,
    data: &[u8],
) -> io::Result<Vec<u8>> {
    let (service, address) = bound(transport)?;
    let (client, own) = bound(transport)?;
    rustix::net::connect(&client, &address)?;
    rustix::net::send(&client, data, rustix::net::SendFlags::empty())?;
    // Others can send to the socket as well; their datagrams are not for the probe.
    let service = Bound {
        socket: Arc::new(service),
        file: None,
        is_inherited: false,
    };
    let sockets = Sockets::new(
        vec![service],
        Gate::open(true),
        Arc::default(),
        Arc::default(),
    )?;
    let client = register(Arc::new(client), Interest::READABLE)?;
    let answering = datagram::serve_one(versions, version, Arc::new(sockets), &own);
    let reading = async {
        let mut answer = vec![0; MAX_ANSWER];
        loop {
            let mut ready = client.readable().await?;
            let flags = rustix::net::RecvFlags::DONTWAIT;
            match rustix::net::recv(client.get_ref(), &mut *answer, flags) {
                Ok((length, _)) => {
                    answer.truncate(length);
                    return Ok(answer);
                }
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    };
    let serving = async {
        answering.await?;
        // The answer may still be on its way. If there is none, the time-out says so.
        std::future::pending().await
    };
    tokio::select! {
        biased;
        answer = reading => answer,
        failed = serving => failed,
    }
}

/// A socket at a free address that only this machine reaches, and its address.
fn bound(transport: Transport) -> io::Result<(OwnedFd, SocketAddrAny)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let make = |family, address: SocketAddrAny| {
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
        rustix::net::bind(&socket, &address)?;
        let address = rustix::net::getsockname(&socket)?;
        io::Result::Ok((socket, address))
    };
    if transport == Transport::UnixDatagram {
        // The kernel chooses an abstract name.
        return make(AddressFamily::UNIX, SocketAddrUnix::new_unnamed().into());
    }
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    make(AddressFamily::INET, v4.into()).or_else(|_| make(AddressFamily::INET6, v6.into()))
}
