//! What a swap costs: how long it takes, how much it delays a live connection, and
//! how much memory two versions take.
//!
//! `cargo bench --bench swap` runs the built `sockserve`, and prints
//!
//! - the time from the request for a swap to the first answer that a new
//!   connection gets from the new version, without and with compiled components
//!   kept on disk;
//! - the longest round trip that live connections saw while they were handed
//!   over, with 1, 200 and 5000 connections open, beside the longest one without
//!   a swap. At most sixteen connections talk, the others are idle; all of them
//!   are handed over;
//! - the resident memory with one version, its maximum during a hand-over, after
//!   it, and with the connections of both versions when the old ones drain.
//!
//! `cargo bench --bench swap -- FILTER` runs the servers whose name contains
//! `FILTER`.

mod server;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use server::Result;
use sockserve::Swapped;
use sockserve::control::{SwapRequest, client};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The contract of both families, and the dispatch.
const SERVED: [(&str, &str); 5] = [
    ("evented", "poll"),
    ("blocking", "poll"),
    ("blocking", "threaded"),
    ("concurrent", "poll"),
    ("concurrent", "threaded"),
];
const FAMILIES: [&str; 2] = ["echo", "upper"];
const CONNECTIONS: [usize; 3] = [1, 200, 5000];
/// How many connections each version has when there are two versions.
const EACH: usize = 200;
/// Permits for connections that are still closing.
const SPARE: usize = 100;
/// How many connections talk.
const TALKING: usize = 16;
/// How often a swap is timed. The result is the median.
const SWAPS: usize = 11;
/// How long connections talk without a swap, and around one.
const TALK: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo's own `--bench` is not a filter.
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    raise_open_files()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for (contract, dispatch) in SERVED {
        let name = format!("{contract} {dispatch}");
        if filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        println!("{name}");
        runtime.block_on(swaps(contract, dispatch))?;
        for connections in CONNECTIONS {
            let handed_over = runtime.block_on(hand_over(contract, dispatch, connections));
            if let Err(error) = handed_over {
                // The kernel may not allow this many instances of two versions.
                println!("  {connections:>4} connections: {error}");
            }
        }
        runtime.block_on(both_versions(contract, dispatch))?;
    }
    Ok(())
}

/// Measures the time from the request to the first answer of the new version.
async fn swaps(contract: &str, dispatch: &str) -> Result<()> {
    for cached in [false, true] {
        let server = Server::start(contract, dispatch, EACH, cached)?;
        let mut times = Vec::new();
        // The first two swaps fill the cache, if there is one.
        for number in 0..SWAPS + 2 {
            let time = time_swap(&server, contract, number).await?;
            if number >= 2 {
                times.push(time);
            }
        }
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let how = if cached { "cached" } else { "compiled" };
        println!("  first answer after the request, {how:<8} {median:>9.1?}");
    }
    Ok(())
}

async fn time_swap(server: &Server, contract: &str, number: usize) -> Result<Duration> {
    let begun = Instant::now();
    let swapping = server.swap(contract, number, None);
    let answered = async {
        let expected: &[u8] = if number.is_multiple_of(2) {
            b"X\n"
        } else {
            b"x\n"
        };
        loop {
            let mut stream = TcpStream::connect(server.address).await?;
            let mut answer = [0; 2];
            stream.write_all(b"x\n").await?;
            stream.read_exact(&mut answer).await?;
            stream.set_zero_linger()?;
            if answer == expected {
                return Ok::<_, std::io::Error>(begun.elapsed());
            }
            // The server has one core, and also compiles on it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (swapped, answered) = tokio::join!(swapping, answered);
    swapped?;
    Ok(answered?)
}

/// Measures how much a hand-over delays live connections, and how much memory it
/// takes.
async fn hand_over(contract: &str, dispatch: &str, connections: usize) -> Result<()> {
    let server = Server::start(contract, dispatch, connections, true)?;
    // Swaps twice, so that both components are in the cache.
    for number in 0..2 {
        server.swap(contract, number, None).await?;
    }
    let mut idle = Vec::new();
    for _ in TALKING..connections {
        idle.push(open(server.address).await?);
    }
    let mut talking = Vec::new();
    for _ in 0..TALKING.min(connections) {
        talking.push(open(server.address).await?);
    }
    let (talking, without) = longest_round_trip(talking, async { Ok(()) }).await?;
    let before = server.memory("VmRSS")?;
    server.forget_peak()?;
    let (talking, with) = longest_round_trip(talking, async {
        server.swap(contract, 0, None).await.map(drop)
    })
    .await?;
    // All idle connections must have been handed over as well.
    for stream in &mut idle {
        stream.write_all(b"x\n").await?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await?;
        if &answer != b"X\n" {
            return Err("a connection was not handed over".into());
        }
    }
    println!(
        "  {connections:>4} connections: longest round trip {with:>9.1?} with a swap, \
         {without:>9.1?} without; memory {before} KiB, at most {}, then {}",
        server.memory("VmHWM")?,
        server.memory("VmRSS")?,
    );
    drop((idle, talking));
    Ok(())
}

/// Lets the connections talk, and runs `then` in the middle. Returns the longest
/// round trip.
async fn longest_round_trip(
    streams: Vec<TcpStream>,
    then: impl Future<Output = Result<()>>,
) -> Result<(Vec<TcpStream>, Duration)> {
    let until = Instant::now() + TALK * 2;
    let mut talking = JoinSet::new();
    for mut stream in streams {
        talking.spawn(async move {
            let (mut answer, mut longest) = ([0; 2], Duration::ZERO);
            while Instant::now() < until {
                let begun = Instant::now();
                stream.write_all(b"x\n").await?;
                stream.read_exact(&mut answer).await?;
                longest = longest.max(begun.elapsed());
            }
            Ok::<_, std::io::Error>((stream, longest))
        });
    }
    tokio::time::sleep(TALK).await;
    then.await?;
    let (mut streams, mut longest) = (Vec::new(), Duration::ZERO);
    while let Some(talked) = talking.join_next().await {
        let (stream, its) = talked??;
        streams.push(stream);
        longest = longest.max(its);
    }
    Ok((streams, longest))
}

/// Measures the memory of two versions with the same number of connections, while
/// the old one drains.
async fn both_versions(contract: &str, dispatch: &str) -> Result<()> {
    let server = Server::start(contract, dispatch, 2 * EACH, true)?;
    let mut streams = Vec::new();
    for _ in 0..EACH {
        streams.push(open(server.address).await?);
    }
    let one = server.memory("VmRSS")?;
    server
        .swap(contract, 0, Some(sockserve::OldConnections::Drain))
        .await?;
    for _ in 0..EACH {
        streams.push(open(server.address).await?);
    }
    let both = server.memory("VmRSS")?;
    println!("  {EACH} connections on one version {one} KiB, {EACH} each on two {both} KiB");
    drop(streams);
    Ok(())
}

/// Opens a connection, and waits until it has an instance.
async fn open(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(b"x\n").await?;
    stream.read_exact(&mut [0; 2]).await?;
    Ok(stream)
}

/// A server with a control socket.
struct Server {
    process: server::Server,
    address: SocketAddr,
    directory: PathBuf,
}

impl Server {
    fn start(contract: &str, dispatch: &str, connections: usize, cached: bool) -> Result<Self> {
        let mut directory = std::env::temp_dir();
        directory.push(format!("sockserve-bench-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
        command
            .args(["serve", &format!("builtin:echo-{contract}")])
            .args(["--name", "bench", "--dispatch", dispatch])
            .args(["--listen", "tcp://127.0.0.1:0", "--workers", "1"])
            .args(["--max-connections", &(connections + SPARE).to_string()])
            .arg("--control")
            .arg(directory.join("control"));
        if cached {
            command.arg("--cache").arg(directory.join("cache"));
        }
        let process = server::Server::start(&mut command, Stdio::null())?;
        Ok(Self {
            address: process.address,
            process,
            directory,
        })
    }

    /// Swaps to upper if `number` is even, and back to echo if it is odd.
    async fn swap(
        &self,
        contract: &str,
        number: usize,
        old: Option<sockserve::OldConnections>,
    ) -> Result<Swapped> {
        let family = FAMILIES.get((number + 1) % 2).ok_or("no family")?;
        let mut request = SwapRequest::new(&format!("builtin:{family}-{contract}"));
        request.old = old;
        let control = self.directory.join("control");
        let question = client::Question::swap("bench", &request)?;
        Ok(client::ask(&control, question).await?)
    }

    /// Returns a value of the server's `/proc` status, in KiB.
    fn memory(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(value.ok_or("no such line")?.parse()?)
    }

    /// Resets the peak of the memory to what is resident now.
    fn forget_peak(&self) -> Result<()> {
        Ok(std::fs::write(
            format!("/proc/{}/clear_refs", self.process.child.id()),
            "5",
        )?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Raises the limit on open files: this program needs as many descriptors as the
/// server.
fn raise_open_files() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, limit)?)
}
