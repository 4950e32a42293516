//! Makes a connection over loopback and returns both ends of it. Other processes cannot
//! take either end.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Tried in this order; a machine may have only one of them.
const LOOPBACKS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// A client, and the accepted side of its connection.
pub(super) struct Pair {
    pub(super) client: TcpStream,
    pub(super) accepted: OwnedFd,
    /// The client's address.
    pub(super) peer: SocketAddr,
}

/// Makes a connection at the first loopback address that the machine has.
pub(super) async fn pair() -> io::Result<Pair> {
    pair_at(&LOOPBACKS).await
}

/// Makes a connection at the first of these addresses that the machine has. If it has
/// none, returns the error of the first one.
async fn pair_at(addresses: &[IpAddr]) -> io::Result<Pair> {
    let mut first = None;
    for address in addresses {
        match (Ends::bind(*address), &first) {
            (Ok(ends), _) => return ends.meet().await,
            (Err(error), None) => first = Some(error),
            (Err(_), Some(_)) => {}
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
}

/// Two sockets that are bound and not yet connected.
struct Ends {
    listener: TcpListener,
    client: TcpSocket,
}

impl Ends {
    /// Binds both sockets, each to a free port of `address`.
    fn bind(address: IpAddr) -> io::Result<Self> {
        let new = || match address {
            IpAddr::V4(_) => TcpSocket::new_v4(),
            IpAddr::V6(_) => TcpSocket::new_v6(),
        };
        let listening = new()?;
        listening.bind((address, 0).into())?;
        // Bound before the listener listens, so that the client's port is known before
        // any process can connect.
        let client = new()?;
        client.bind((address, 0).into())?;
        Ok(Self {
            listener: listening.listen(BACKLOG)?,
            client,
        })
    }

    /// Connects the two sockets. Other processes can connect to the listener too; their
    /// connections are closed, because the new version would serve them, or be judged
    /// by them.
    async fn meet(self) -> io::Result<Pair> {
        let (peer, listening) = (self.client.local_addr()?, self.listener.local_addr()?);
        let accepting = async {
            loop {
                match self.listener.accept().await {
                    Ok((accepted, address)) if address == peer => return Ok(accepted),
                    Ok(_) => {}
                    // A peer that has gone again.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                    Err(error) => return Err(error),
                }
            }
        };
        let (client, accepted) = tokio::try_join!(self.client.connect(listening), accepting)?;
        accepted.set_nodelay(true)?;
        Ok(Pair {
            client,
            accepted: OwnedFd::from(accepted.into_std()?),
            peer,
        })
    }
}

/// Room for connections of other processes, so that they do not keep the client out.
const BACKLOG: u32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream as StdStream;

    fn block_on<R>(future: impl Future<Output = R>) -> R {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(future)
    }

    fn check(pair: Pair) {
        let mut client = pair.client.into_std().unwrap();
        client.set_nonblocking(false).unwrap();
        let mut accepted = StdStream::from(pair.accepted);
        accepted.write_all(b"x").unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
        assert_eq!(client.local_addr().unwrap(), pair.peer);
        assert_eq!(accepted.peer_addr().unwrap(), pair.peer);
    }

    #[test]
    fn only_its_own_client_is_taken() {
        block_on(async {
            let ends = Ends::bind(LOOPBACKS[0]).unwrap();
            let address = ends.listener.local_addr().unwrap();
            // These are in the queue before the client.
            let others: Vec<_> = (0..10)
                .map(|_| StdStream::connect(address).unwrap())
                .collect();
            check(ends.meet().await.unwrap());
            for mut other in others {
                let mut nothing = [0];
                assert!(matches!(other.read(&mut nothing), Ok(0) | Err(_)));
            }
        });
    }

    #[test]
    fn a_machine_without_ipv4_has_ipv6() {
        // RFC 5737: an address for documentation, which no machine has.
        let nowhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
        block_on(async {
            let available = Ends::bind(LOOPBACKS[1]).is_ok();
            match pair_at(&[nowhere, LOOPBACKS[1]]).await {
                Ok(pair) => check(pair),
                Err(error) => {
                    assert!(!available, "{error}");
                    assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
                }
            }
            let error = pair_at(&[nowhere]).await.err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        });
    }
}
