//! Clients that send a datagram and wait for the answer: echo and time over UDP.

use super::Options;
use super::line::{Kind, question, wrong_bytes};
use super::report::Meter;
use anyhow::Context as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// The most clients at once: what waits for a slow handler has to fit into the kernel's
/// buffer.
const MAX_CLIENTS: u32 = 64;
/// The longest question, in bytes.
const LONGEST: usize = 512;
/// After this time a datagram or its answer is lost, and is sent again.
const LOST: Duration = Duration::from_secs(2);
/// How often a datagram is sent.
const TRIES: u32 = 5;

/// Runs all clients at once. Each client does its round trips one after the other.
pub(super) async fn drive(
    kind: Kind,
    address: SocketAddr,
    options: &Options,
    meter: &Arc<Meter>,
) -> anyhow::Result<()> {
    let mut clients = JoinSet::new();
    for client in 0..options.connections.min(MAX_CLIENTS) {
        let meter = Arc::clone(meter);
        let round_trips = options.round_trips;
        clients.spawn(async move {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            socket.connect(address).await?;
            meter.count_connection();
            for number in 0..round_trips {
                let mut question = question(client, number);
                question.truncate(LONGEST);
                round_trip(kind, &socket, &question, &meter).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(())
}

async fn round_trip(
    kind: Kind,
    socket: &UdpSocket,
    question: &[u8],
    meter: &Meter,
) -> anyhow::Result<()> {
    let mut answer = [0; 1 << 16];
    for _ in 0..TRIES {
        let began = Instant::now();
        let second = super::line::unix_seconds();
        socket.send(question).await.context("send")?;
        let Ok(length) = tokio::time::timeout(LOST, socket.recv(&mut answer)).await else {
            continue;
        };
        meter.add_round_trip(began.elapsed());
        let answer = answer.get(..length?).unwrap_or_default();
        meter.count_wrong_bytes(wrong_bytes(kind, question, answer, second));
        return Ok(());
    }
    anyhow::bail!("no answer in {TRIES} tries")
}
