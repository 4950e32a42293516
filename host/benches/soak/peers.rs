//! Peers of all kinds, many at once.

use crate::server::Result;
use rustix::net::{SendFlags, sockopt};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The most peers at the same time.
const AT_ONCE: usize = 64;
/// The most time that one peer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many bytes a peer sends that sends much: more than the kernel and the host
/// take for a peer with a small receive buffer.
const MUCH: usize = 300_000;
/// The most bytes that a peer reads after it has asked for a flood.
const FLOOD: usize = 1 << 20;

/// What the guests of a run are expected to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strictness {
    /// They answer every byte, in upper case or as it is.
    EveryByte,
    /// They send no other bytes than these, and they end the connection.
    Survive,
}

/// What a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Talk,
    Stay,
    Bulk,
    HalfCloseFirst,
    ByteByByte,
    Urgent,
    Silent,
    Late,
    ResetAtOnce,
    ResetAfterSending,
    ResetInTheMidst,
    ResetAfterAnswer,
    Deaf,
    Fault(&'static str),
}

use Kind::{
    Bulk, ByteByByte, Deaf, Fault, HalfCloseFirst, Late, ResetAfterAnswer, ResetAfterSending,
    ResetAtOnce, ResetInTheMidst, Silent, Stay, Talk, Urgent,
};

/// The kinds, in the order in which they connect. The list has each kind as often
/// as it is to occur.
const KINDS: [Kind; 40] = [
    Talk,
    ResetAtOnce,
    HalfCloseFirst,
    Fault("trap"),
    Talk,
    ResetAfterSending,
    Stay,
    Talk,
    Silent,
    Fault("err"),
    ResetAfterAnswer,
    Talk,
    Bulk,
    Talk,
    Urgent,
    Fault("spin"),
    Talk,
    ResetInTheMidst,
    Talk,
    Deaf,
    ResetAtOnce,
    Talk,
    Fault("leak"),
    ByteByByte,
    Stay,
    Talk,
    HalfCloseFirst,
    Fault("hog"),
    ResetAfterAnswer,
    Talk,
    Silent,
    Fault("flood"),
    Late,
    Talk,
    ResetAfterSending,
    Fault("misuse"),
    Talk,
    ResetInTheMidst,
    Stay,
    Talk,
];

pub(crate) struct Peers {
    address: SocketAddr,
    strictness: Strictness,
    /// How long a slow peer pauses.
    pause: Duration,
    made: u64,
    running: JoinSet<(Kind, io::Result<()>)>,
    /// The first error of each kind of peer, and the number of its errors.
    failed: BTreeMap<Kind, (String, u64)>,
}

impl Peers {
    /// `one_by_one` says that the server serves one connection at a time. Then no
    /// peer may be slow.
    pub(crate) fn new(address: SocketAddr, strictness: Strictness, one_by_one: bool) -> Self {
        Self {
            address,
            strictness,
            pause: Duration::from_millis(if one_by_one { 1 } else { 30 }),
            made: 0,
            running: JoinSet::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Returns how many peers have been started.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// Starts peers until `goal` have been started. Some of them are still running
    /// at the end.
    pub(crate) async fn make(&mut self, goal: u64) -> Result<()> {
        while self.made < goal {
            while self.running.len() >= AT_ONCE {
                self.join().await?;
            }
            let at = self.made as usize % KINDS.len();
            let mut kind = KINDS.get(at).copied().unwrap_or(Talk);
            if self.strictness == Strictness::EveryByte && matches!(kind, Fault(_)) {
                kind = Talk;
            }
            let peer = Peer {
                address: self.address,
                number: self.made,
                pause: self.pause,
                strictness: self.strictness,
            };
            self.running.spawn(async move {
                let result = timeout(PATIENCE, peer.be(kind)).await;
                let result = result.unwrap_or_else(|_| {
                    Err(io::Error::other(format!("it takes more than {PATIENCE:?}")))
                });
                (kind, result)
            });
            self.made += 1;
        }
        Ok(())
    }

    /// Waits until all peers have ended.
    pub(crate) async fn finish(&mut self) -> Result<()> {
        while !self.running.is_empty() {
            self.join().await?;
        }
        Ok(())
    }

    async fn join(&mut self) -> Result<()> {
        if let Some(joined) = self.running.join_next().await
            && let (kind, Err(error)) = joined?
        {
            let first = || (error.to_string(), 0);
            self.failed.entry(kind).or_insert_with(first).1 += 1;
        }
        Ok(())
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        let failed = self.failed.iter();
        failed
            .map(|(kind, (first, count))| format!("{count} peers {kind:?}, the first: {first}"))
            .collect()
    }
}

struct Peer {
    address: SocketAddr,
    number: u64,
    pause: Duration,
    strictness: Strictness,
}

impl Peer {
    /// Runs the peer. An error is a fault of the server.
    async fn be(self, kind: Kind) -> io::Result<()> {
        let narrow = matches!(kind, Deaf | Late);
        let stream = self.connect(narrow).await?;
        match self.behave(kind, stream).await {
            // A guest that dies takes other connections with it.
            Err(error)
                if self.strictness == Strictness::Survive
                    && error.kind() != io::ErrorKind::InvalidData =>
            {
                Ok(())
            }
            result => result,
        }
    }

    async fn behave(&self, kind: Kind, mut stream: TcpStream) -> io::Result<()> {
        match kind {
            Talk => {
                for _ in 0..=self.number % 4 {
                    self.line(&mut stream).await?;
                }
                self.end(stream, &[]).await
            }
            Stay => {
                for _ in 0..6 {
                    self.line(&mut stream).await?;
                    sleep(self.pause * 3).await;
                }
                self.end(stream, &[]).await
            }
            Bulk => self.exchange(stream, Duration::ZERO).await,
            Late => self.exchange(stream, self.pause).await,
            HalfCloseFirst => {
                let sent = self.text(1000);
                stream.write_all(&sent).await?;
                self.end(stream, &sent).await
            }
            ByteByByte => {
                let sent = self.text(60);
                for byte in &sent {
                    stream.write_all(&[*byte]).await?;
                    tokio::task::yield_now().await;
                }
                self.end(stream, &sent).await
            }
            Urgent => {
                let sent = self.text(200);
                stream.write_all(&sent).await?;
                // An urgent byte is not part of the stream.
                rustix::net::send(&stream, b"!", SendFlags::OOB)?;
                stream.write_all(&sent).await?;
                self.end(stream, &[&*sent, &*sent].concat()).await
            }
            Silent => self.end(stream, &[]).await,
            ResetAtOnce => stream.set_zero_linger(),
            ResetAfterSending => {
                stream.write_all(&self.text(50_000)).await?;
                stream.set_zero_linger()
            }
            ResetInTheMidst => {
                stream.write_all(&self.text(50_000)).await?;
                stream.read_exact(&mut [0]).await?;
                stream.set_zero_linger()
            }
            ResetAfterAnswer => {
                self.line(&mut stream).await?;
                stream.set_zero_linger()
            }
            Deaf => {
                let sent = self.text(MUCH);
                let _ = timeout(self.pause, stream.write_all(&sent)).await;
                sleep(self.pause).await;
                stream.set_zero_linger()
            }
            Fault(name) => self.provoke(name, stream).await,
        }
    }

    /// Connects from an address of its own, so that the ports do not run out.
    async fn connect(&self, narrow: bool) -> io::Result<TcpStream> {
        let [.., high, low] = (self.number % 62_500).to_be_bytes();
        let here = Ipv4Addr::new(127, 1, high, low);
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(IpAddr::V4(here), 0))?;
        if narrow {
            sockopt::set_socket_recv_buffer_size(&socket, 4096)?;
        }
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Returns lines that name this peer, at least `least` bytes together.
    fn text(&self, least: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(least + 60);
        let mut count = 0_u64;
        while text.len() < least {
            text.extend(format!("line{count}ofpeer{}\n", self.number).into_bytes());
            count += 1;
        }
        text
    }

    async fn line(&self, stream: &mut TcpStream) -> io::Result<()> {
        let sent = self.text(1);
        stream.write_all(&sent).await?;
        let mut answer = vec![0; sent.len()];
        let mut filled = 0;
        while let Some(room @ [_, ..]) = answer.get_mut(filled..) {
            match stream.read(room).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
        }
        same(&answer, &sent)
    }

    /// Sends FIN, and expects `rest` and then the end of the stream.
    async fn end(&self, mut stream: TcpStream, rest: &[u8]) -> io::Result<()> {
        stream.shutdown().await?;
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer).await;
        self.check(&answer, rest, read.map(drop))
    }

    /// Sends much, and starts to read after a while.
    async fn exchange(&self, mut stream: TcpStream, after: Duration) -> io::Result<()> {
        let sent = self.text(MUCH);
        let (mut input, mut output) = stream.split();
        let mut answer = Vec::new();
        let writing = async {
            output.write_all(&sent).await?;
            output.shutdown().await
        };
        let reading = async {
            sleep(after).await;
            input.read_to_end(&mut answer).await
        };
        let (written, read) = tokio::join!(writing, reading);
        self.check(&answer, &sent, written.and(read.map(drop)))
    }

    /// Asks a faults guest for a fault, and waits for the end of the connection.
    async fn provoke(&self, fault: &str, mut stream: TcpStream) -> io::Result<()> {
        self.line(&mut stream).await?;
        stream
            .write_all(format!("fault {fault}\n").as_bytes())
            .await?;
        sleep(self.pause).await;
        // `misuse` waits for these bytes.
        stream.write_all(b"12345678").await?;
        stream.shutdown().await?;
        let mut taken = stream.take(FLOOD as u64);
        tokio::io::copy(&mut taken, &mut tokio::io::sink()).await?;
        Ok(())
    }

    /// Checks that the answer is what was sent. If a guest may die, the answer may
    /// be only the beginning of it.
    fn check(&self, answer: &[u8], sent: &[u8], result: io::Result<()>) -> io::Result<()> {
        let expected = match self.strictness {
            Strictness::EveryByte => {
                result?;
                sent
            }
            Strictness::Survive => sent.get(..answer.len()).unwrap_or(sent),
        };
        same(answer, expected)
    }
}

/// Checks that an answer is what was sent, in any case of letters.
fn same(answer: &[u8], sent: &[u8]) -> io::Result<()> {
    if answer.eq_ignore_ascii_case(sent) {
        return Ok(());
    }
    let at = answer
        .iter()
        .zip(sent)
        .take_while(|(a, b)| a.eq_ignore_ascii_case(b))
        .count();
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "the answer of {} bytes to {} bytes differs at byte {at}",
            answer.len(),
            sent.len()
        ),
    ))
}
