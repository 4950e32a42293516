//! The live swap at the end of the demo: what an open connection sees of it, and
//! what the next connection sees. The open connection is handed over to a handler
//! with another contract.

use super::line::connect;
use super::service_options;
use crate::cli::output;
use crate::{
    Dispatch, Handler, HandlerOptions, LocalAddress, Service, SwapOptions, Transport, builtin,
};
use anyhow::Context as _;
use std::io::Write as _;
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

const OLD: &str = "builtin:echo-concurrent";
const NEW: &str = "builtin:upper-evented";

/// Replaces echo by upper under an open connection, and prints the answers. Returns
/// whether everything was as expected.
pub(super) async fn show() -> anyhow::Result<bool> {
    let component = builtin::load(OLD)?;
    let handler = Handler::new(OLD, &component, HandlerOptions::new(Dispatch::Poll))?;
    let mut service = Service::start(service_options("echo", Transport::Tcp)?, handler)?;
    let address = service
        .local_addresses()
        .first()
        .and_then(LocalAddress::ip)
        .context("the service has no address")?;
    let mut old = Peer::connect(address).await?;
    let mut stdout = output::stdout();
    writeln!(stdout, "\nlive swap: {OLD} → {NEW}")?;
    let mut say = |who: &str, answer: &str| writeln!(stdout, "  {who:<22} {answer:?}");
    let before = old.ask("typed before the swap\n").await?;
    say("an open connection", &before)?;
    let swapped = service.handle().swap(NEW, SwapOptions::default()).await?;
    let after = old.ask("typed after the swap\n").await?;
    say("the same connection", &after)?;
    let mut new = Peer::connect(address).await?;
    let next = new.ask("typed by another\n").await?;
    say("the next connection", &next)?;
    drop((old, new));
    service.drain();
    service.ended().await.context("the service ended")?;
    let moved = service.handle().status().hand_overs;
    Ok(before == "typed before the swap\n"
        && after == "TYPED AFTER THE SWAP\n"
        && next == "TYPED BY ANOTHER\n"
        && swapped.version == 2
        && (moved.handed_over, moved.refused) == (1, 0))
}

struct Peer(BufReader<TcpStream>);

impl Peer {
    async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(BufReader::new(connect(address).await?)))
    }

    async fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        self.0.get_mut().write_all(question.as_bytes()).await?;
        self.line().await
    }

    async fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        Ok(line)
    }
}
