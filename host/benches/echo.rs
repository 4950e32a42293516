//! How fast an echo is, as a ratio to a native Tokio echo in the same run.
//!
//! `cargo bench` runs three loads against each server: ping-pong (64 connections,
//! 64 bytes per message), stream (8 connections, 64 KiB per write) and connect
//! (connect, one round trip, close, on 16 clients). A server runs on one core and
//! the clients on another, if there are two. Each load runs several times, native
//! and served in turn, and the medians are compared: absolute numbers say little on
//! a busy machine.
//!
//! `cargo bench -- FILTER` runs the servers whose name contains `FILTER`.

mod server;
mod shared;

use server::{Result, Server};
use shared::{echo, median, ping_pong, runtime};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// How long one run of a load takes.
const RUN: Duration = Duration::from_secs(2);
const RUNS: usize = 3;
/// The argument that makes this program the native server.
const NATIVE: &str = "--native-echo";

const SERVED: [(&str, &str); 5] = [
    ("echo-evented", "poll"),
    ("echo-blocking", "poll"),
    ("echo-blocking", "threaded"),
    ("echo-concurrent", "poll"),
    ("echo-concurrent", "threaded"),
];

#[derive(Clone, Copy)]
enum Load {
    PingPong,
    Stream,
    Connect,
}

const LOADS: [Load; 3] = [Load::PingPong, Load::Stream, Load::Connect];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == NATIVE) {
        return native();
    }
    // Cargo's own `--bench` is not a filter.
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let clients = runtime()?;
    println!(
        "{:<26} {:>10} {:>10} {:>10}",
        "ratio to native", "ping-pong", "stream", "connect"
    );
    for (component, dispatch) in SERVED {
        let name = format!("{component} {dispatch}");
        if filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let mut cells = Vec::new();
        for load in LOADS {
            cells.push(compare(&clients, load, component, dispatch)?);
        }
        println!("{name:<26} {}", cells.join(" "));
    }
    Ok(())
}

/// Runs a load against both servers in turn. Returns the ratio of the medians.
fn compare(clients: &Runtime, load: Load, component: &str, dispatch: &str) -> Result<String> {
    let mut native = Command::new(std::env::current_exe()?);
    native.arg(NATIVE);
    let native = Server::start(&mut native, Stdio::null())?;
    let mut served = Command::new(env!("CARGO_BIN_EXE_sockserve"));
    served.args([
        "serve",
        &format!("builtin:{component}"),
        "--dispatch",
        dispatch,
    ]);
    served.args(["--listen", "tcp://127.0.0.1:0", "--workers", "1"]);
    let served = Server::start(&mut served, Stdio::null())?;
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..RUNS {
        for (server, rates) in [&native, &served].into_iter().zip(&mut rates) {
            rates.push(clients.block_on(load.run(server.address))?);
        }
    }
    let [native, served] = rates.map(|rates| median(&rates));
    Ok(format!("{:>10.2}", served / native))
}

impl Load {
    /// Returns the rate: messages, bytes or connections per second.
    async fn run(self, address: SocketAddr) -> Result<f64> {
        let until = Instant::now() + RUN;
        let clients = match self {
            Self::PingPong => 64,
            Self::Stream => 8,
            Self::Connect => 16,
        };
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            tasks.spawn(async move {
                let count = match self {
                    Self::PingPong => round_trips(address, until).await,
                    Self::Stream => stream(address, until).await,
                    Self::Connect => connect(address, until).await,
                };
                count.map_err(|error| error.to_string())
            });
        }
        let mut total = 0;
        while let Some(count) = tasks.join_next().await {
            total += count??;
        }
        Ok(f64::from(u32::try_from(total / 1024)?) * 1024.0 / RUN.as_secs_f64())
    }
}

async fn round_trips(address: SocketAddr, until: Instant) -> std::io::Result<usize> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    // Scaled up, so that the sum survives the rounding in `run`.
    Ok(ping_pong(stream, until).await? * 1024)
}

async fn stream(address: SocketAddr, until: Instant) -> std::io::Result<usize> {
    let stream = TcpStream::connect(address).await?;
    let (mut reading, mut writing) = stream.into_split();
    let sending = tokio::spawn(async move {
        let block = vec![7; 64 << 10];
        while Instant::now() < until {
            writing.write_all(&block).await?;
        }
        writing.shutdown().await
    });
    let mut buffer = vec![0; 64 << 10];
    let mut count = 0;
    loop {
        let read = reading.read(&mut buffer).await?;
        if read == 0 {
            break;
        }
        count += read;
    }
    sending.await??;
    Ok(count)
}

async fn connect(address: SocketAddr, until: Instant) -> std::io::Result<usize> {
    let (message, mut answer) = ([7; 64], [0; 64]);
    let mut count = 0;
    while Instant::now() < until {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        // Avoids TIME_WAIT on this side; else the ports run out.
        stream.set_zero_linger()?;
        count += 1024;
    }
    Ok(count)
}

/// The native server: one task per connection, with a buffer of 64 KiB.
fn native() -> Result<()> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening tcp://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(echo(stream));
        }
    })
}
