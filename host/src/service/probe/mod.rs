//! A connection or datagram that tries a new version, before a user's goes to it.
//!
//! The probe's time-out bounds all of it: connecting, sending, and the answer. The peer
//! of the connection is always this process. It comes over the transport that the service
//! listens on first.

mod datagrams;
mod loopback;
mod text;

use crate::connection::Connection;
use crate::connection::peer::Peer;
use crate::dispatch;
use crate::guest::handler::Handler;
use crate::listen::local::Transport;
use crate::socket_name::UnixName;
use crate::version::versions::Versions;
use crate::version::{Origin, Version};
use loopback::Pair;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use text::Shown;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;

/// What to send to a new version, and what it has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// What is sent as soon as the connection is open. May be empty.
    pub send: Vec<u8>,
    /// What the answer has to begin with.
    pub expect: Vec<u8>,
    /// How long all of it may take: connecting, sending, and the answer. By default 5
    /// seconds.
    pub timeout: Duration,
}

/// The default of `timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a probe failed, or why its text was refused. One line each. Bytes are shown with
/// the escapes of a probe, and at most 200 of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The text is no probe.
    #[error(
        "`{0}` is no probe: write send=TEXT,expect=TEXT; the escapes are \\r, \\n, \\t, \\0, \\\\, \\, \
         and \\xHH"
    )]
    Syntax(String),
    /// The version answered something else.
    #[error("the probe failed: expected \"{expected}\", and {source_name} answered \"{answered}\"")]
    Answer {
        /// Where the component came from.
        source_name: String,
        /// What the answer had to begin with.
        expected: String,
        /// What came.
        answered: String,
    },
    /// The version did not answer in time.
    #[error("the probe failed: no answer within {0:?}; the answer so far was \"{1}\"")]
    Timeout(Duration, String),
    /// The connection could not be made.
    #[error("the probe failed: {0}")]
    Connection(#[from] io::Error),
}

impl Probe {
    /// Sends `send` and expects an answer that begins with `expect`, within the default
    /// time-out.
    pub fn new(send: impl Into<Vec<u8>>, expect: impl Into<Vec<u8>>) -> Self {
        Self {
            send: send.into(),
            expect: expect.into(),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// Opens one real connection over loopback to a version of `handler` that is not
    /// current, and checks the answer. Then waits until that version has ended, at most
    /// for the close timeout.
    pub(crate) async fn run(
        &self,
        versions: &Arc<Versions>,
        handler: Arc<Handler>,
        transport: Transport,
    ) -> Result<(), ProbeError> {
        let source_name = handler.source().to_owned();
        let number = versions.next_number();
        let version = Version::new(number, handler, Origin::Probe, Arc::default());
        dispatch::start(versions, &version)?;
        version.open_gate();
        let mut answer = Vec::new();
        let probing = async {
            match transport {
                Transport::Tcp => {
                    let client = connect(versions, &version).await?;
                    self.talk(client, &mut answer).await;
                }
                Transport::Unix => {
                    let client = connect_unix(versions, &version)?;
                    self.talk(client, &mut answer).await;
                }
                Transport::Udp | Transport::UnixDatagram => {
                    answer = datagrams::ask(versions, &version, transport, &self.send).await?;
                }
            }
            io::Result::Ok(())
        };
        let probed = tokio::time::timeout(self.timeout, probing).await;
        version.abort();
        // Its instance takes room that the first user's connection may need.
        let _ = tokio::time::timeout(versions.limits().close_timeout, version.emptied()).await;
        match probed {
            _ if answer.starts_with(&self.expect) => Ok(()),
            Err(_) => Err(ProbeError::Timeout(self.timeout, shown(&answer))),
            Ok(Err(error)) => Err(ProbeError::Connection(error)),
            Ok(Ok(())) => Err(ProbeError::Answer {
                source_name,
                expected: shown(&self.expect),
                answered: shown(&answer),
            }),
        }
    }

    /// Sends, and reads until the answer is known to be right, wrong, or too short.
    ///
    /// Does both at once: a handler may answer before it has read everything. It need
    /// not read everything.
    async fn talk(&self, client: impl AsyncRead + AsyncWrite, answer: &mut Vec<u8>) {
        let (mut input, mut output) = tokio::io::split(client);
        let sending = async {
            let _ = output.write_all(&self.send).await;
            // Dropping the output would send FIN.
            std::future::pending::<()>().await;
        };
        let reading = async {
            let mut buffer = [0; 4096];
            while answer.len() < self.expect.len() && self.expect.starts_with(answer) {
                match input.read(&mut buffer).await {
                    Ok(count @ 1..) => answer.extend(buffer.iter().take(count)),
                    Ok(0) | Err(_) => break,
                }
            }
        };
        tokio::select! {
            () = reading => {}
            () = sending => {}
        }
    }
}

/// Gives the version a connection, and returns the client's end of it.
///
/// The connection has a permit of its own, so that a service at its limit can be
/// swapped too.
async fn connect(versions: &Arc<Versions>, version: &Arc<Version>) -> io::Result<TcpStream> {
    let Pair {
        client,
        accepted,
        peer,
    } = loopback::pair().await?;
    give(versions, version, accepted, Peer::Ip(peer))?;
    Ok(client)
}

/// As [`connect`], over a pair of Unix sockets.
fn connect_unix(versions: &Arc<Versions>, version: &Arc<Version>) -> io::Result<UnixStream> {
    let (client, accepted) = UnixStream::pair()?;
    let accepted = OwnedFd::from(accepted.into_std()?);
    let peer = Peer::of_unix(&accepted, UnixName::Unnamed);
    give(versions, version, accepted, peer)?;
    Ok(client)
}

fn give(
    versions: &Arc<Versions>,
    version: &Arc<Version>,
    accepted: OwnedFd,
    peer: Peer,
) -> io::Result<()> {
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned();
    let permit = permit.map_err(io::Error::other)?;
    // Its bytes do not count in the service's totals.
    let connection = Connection::new(
        &versions.service,
        accepted,
        peer,
        permit.into(),
        &Arc::default(),
    );
    // This version has not ended, so it takes the connection.
    let _ = dispatch::give(versions, version, connection, &mut None);
    Ok(())
}

/// Bytes as an error shows them.
fn shown(bytes: &[u8]) -> String {
    Shown::new(bytes).to_string()
}
