//! Clients that send a line and wait for the answer: echo and time.

use super::Options;
use super::ctime::ctime;
use super::report::Meter;
use crate::LocalAddress;
use anyhow::Context as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Echo,
    Time,
}

/// Runs all clients at once. Each client does its round trips one after the other.
pub(super) async fn drive(
    kind: Kind,
    address: &LocalAddress,
    options: &Options,
    meter: &Arc<Meter>,
) -> anyhow::Result<()> {
    let mut clients = JoinSet::new();
    for client in 0..options.connections {
        let meter = Arc::clone(meter);
        let round_trips = options.round_trips;
        let address = address.clone();
        clients.spawn(async move {
            let mut stream = open(&address).await?;
            meter.count_connection();
            for number in 0..round_trips {
                round_trip(kind, &mut *stream, client, number, &meter).await?;
            }
            finish(&mut *stream, &meter).await
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(())
}

/// Both directions of a connection.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connects over the transport of an address.
async fn open(address: &LocalAddress) -> anyhow::Result<Box<dyn Duplex>> {
    if let Some(ip) = address.ip() {
        return Ok(Box::new(connect(ip).await?));
    }
    let url = address.to_string();
    let name = url.strip_prefix("unix:@").context("no abstract name")?;
    let stream = UnixStream::connect(format!("\0{name}")).await;
    Ok(Box::new(stream.context("connect")?))
}

pub(super) async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await.context("connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn round_trip(
    kind: Kind,
    stream: &mut dyn Duplex,
    client: u32,
    number: u32,
    meter: &Meter,
) -> anyhow::Result<()> {
    let question = question(client, number);
    let began = Instant::now();
    let second = unix_seconds();
    stream.write_all(&question).await.context("write")?;
    let expected = match kind {
        Kind::Echo => question,
        Kind::Time => time_line(second),
    };
    let mut answer = vec![0; expected.len()];
    stream.read_exact(&mut answer).await.context("read")?;
    meter.add_round_trip(began.elapsed());
    meter.count_wrong_bytes(wrong_bytes(kind, &expected, &answer, second));
    Ok(())
}

/// Counts the wrong bytes of an answer to a question that was asked in this second. An
/// echo's is `question`.
pub(super) fn wrong_bytes(kind: Kind, question: &[u8], answer: &[u8], second: u64) -> usize {
    match kind {
        Kind::Echo => differences(answer, question),
        // A second may have passed between the question and the answer.
        Kind::Time => (second..=unix_seconds())
            .map(|second| differences(answer, &time_line(second)))
            .min()
            .unwrap_or(answer.len()),
    }
}

/// Half-closes the connection, and expects the end of the stream without more
/// bytes.
async fn finish(stream: &mut dyn Duplex, meter: &Meter) -> anyhow::Result<()> {
    stream.shutdown().await.context("half-close")?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.context("end of file")?;
    meter.count_wrong_bytes(rest.len());
    Ok(())
}

/// Returns a line that no other client and no other round trip sends. It is a few
/// bytes to a few kilobytes long.
pub(super) fn question(client: u32, number: u32) -> Vec<u8> {
    let filler = usize::try_from((client * 31 + number * 257) % 2048).unwrap_or(0);
    let mut line = format!("client {client} line {number} ").into_bytes();
    line.extend((b'a'..=b'z').cycle().take(filler));
    line.extend_from_slice(b"\r\n");
    line
}

fn time_line(second: u64) -> Vec<u8> {
    format!("{}\r\n", ctime(second)).into_bytes()
}

pub(super) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Counts the bytes that differ, missing and extra ones included.
pub(super) fn differences(answer: &[u8], expected: &[u8]) -> usize {
    let differing = answer.iter().zip(expected).filter(|(a, b)| a != b).count();
    differing + answer.len().abs_diff(expected.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_count_bytes() {
        assert_eq!(differences(b"abc", b"abc"), 0);
        assert_eq!(differences(b"abc", b"abd"), 1);
        assert_eq!(differences(b"abc", b"ab"), 1);
        assert_eq!(differences(b"", b"ab"), 2);
    }

    #[test]
    fn questions_differ() {
        assert_ne!(question(1, 2), question(2, 1));
        assert!(question(0, 0).ends_with(b"\r\n"));
    }
}
