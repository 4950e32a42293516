//! A room of chat members that all talk at once, round after round.
//!
//! Each member knows the lines that it has to receive: the welcome, each member
//! that joins later, and in each round one message from each other member. The last
//! member also receives a line for each member that leaves.

use super::Options;
use super::line::{connect, differences};
use super::report::Meter;
use anyhow::Context as _;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

const WELCOME: &[u8] = b"You're connected to the sockserve chatserver\r\n";

struct Member {
    stream: BufReader<TcpStream>,
    name: String,
}

pub(super) async fn drive(
    address: SocketAddr,
    options: &Options,
    meter: &Arc<Meter>,
) -> anyhow::Result<()> {
    let mut members = Vec::new();
    for _ in 0..options.members {
        let member = Member::join(address, meter).await?;
        // Earlier members are told about the new one. So all members are in the
        // room when the talk begins.
        for earlier in &mut members {
            let line = format!("Client joined {}\r\n", member.name);
            Member::expect(earlier, line.as_bytes(), meter).await?;
        }
        member.stream.get_ref().set_nodelay(true)?;
        members.push(member);
    }
    let names: Arc<[String]> = members.iter().map(|member| member.name.clone()).collect();
    let barrier = Arc::new(Barrier::new(members.len()));
    let mut talking = JoinSet::new();
    for mut member in members {
        let (names, barrier) = (Arc::clone(&names), Arc::clone(&barrier));
        let meter = Arc::clone(meter);
        let rounds = options.round_trips;
        talking.spawn(async move {
            for round in 0..rounds {
                barrier.wait().await;
                member.round(round, &names, &meter).await?;
            }
            anyhow::Ok(member)
        });
    }
    let mut members = Vec::new();
    while let Some(member) = talking.join_next().await {
        members.push(member??);
    }
    let Some(mut last) = members.pop() else {
        return Ok(());
    };
    for member in members {
        let line = format!("Client left {}\r\n", member.name);
        drop(member);
        last.expect(line.as_bytes(), meter).await?;
    }
    Ok(())
}

impl Member {
    async fn join(address: SocketAddr, meter: &Meter) -> anyhow::Result<Self> {
        let stream = connect(address).await?;
        let name = stream.local_addr()?.to_string();
        let mut member = Self {
            stream: BufReader::new(stream),
            name,
        };
        member.expect(WELCOME, meter).await?;
        meter.count_connection();
        Ok(member)
    }

    async fn line(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut line = Vec::new();
        let count = self.stream.read_until(b'\n', &mut line).await?;
        anyhow::ensure!(count > 0, "{} was dropped by the chat", self.name);
        Ok(line)
    }

    async fn expect(&mut self, expected: &[u8], meter: &Meter) -> anyhow::Result<()> {
        let line = self.line().await.context("read")?;
        meter.count_wrong_bytes(differences(&line, expected));
        Ok(())
    }

    /// Sends one message, and receives one message from each other member, in any
    /// order.
    async fn round(&mut self, round: u32, names: &[String], meter: &Meter) -> anyhow::Result<()> {
        let began = Instant::now();
        let said = format!("round {round} of {}\r\n", self.name);
        self.stream
            .get_mut()
            .write_all(said.as_bytes())
            .await
            .context("write")?;
        let mut expected: HashMap<Vec<u8>, ()> = names
            .iter()
            .filter(|name| **name != self.name)
            .map(|name| {
                (
                    format!("[{name}] round {round} of {name}\r\n").into_bytes(),
                    (),
                )
            })
            .collect();
        while !expected.is_empty() {
            let line = self.line().await.context("read")?;
            if expected.remove(&line).is_none() {
                meter.count_wrong_bytes(line.len());
                anyhow::bail!(
                    "{} heard what nobody said now: {:?}",
                    self.name,
                    String::from_utf8_lossy(&line)
                );
            }
        }
        meter.add_round_trip(began.elapsed());
        Ok(())
    }
}
