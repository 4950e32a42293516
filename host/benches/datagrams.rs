//! What an echo of datagrams costs, and one over Unix streams: processor time of the
//! server per operation, and the rate, as ratios to a native Tokio server in the same
//! run.
//!
//! 64 clients on one core ask the server on the other one, and each waits for its answer.
//! The servers run in turn, several times, and the medians are compared: absolute numbers
//! say little on a busy machine. Where the clients are the limit, the processor time is
//! the figure.
//!
//! `cargo bench --bench datagrams -- FILTER` runs the servers whose name contains
//! `FILTER`, beside the native ones.

mod server;
mod shared;

use server::{Result, Server};
use shared::{echo, median, ping_pong, runtime};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::net::{UdpSocket, UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// How long one run takes.
const RUN: Duration = Duration::from_secs(2);
const RUNS: usize = 5;
const CLIENTS: usize = 64;
/// A datagram whose answer takes longer is lost.
const LOST: Duration = Duration::from_secs(1);
/// The arguments that make this program a native server.
const NATIVE_DATAGRAMS: &str = "--native-datagrams";
const NATIVE_UNIX: &str = "--native-unix";

/// CPython's `socketserver` with the same echo.
const PYTHON: &str = "
import socketserver, sys
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        data, socket = self.request
        socket.sendto(data, self.client_address)
server = socketserver.UDPServer(('127.0.0.1', 0), Handler)
print('listening udp://127.0.0.1:%d' % server.server_address[1], flush=True)
server.serve_forever()
";

/// What the clients do.
#[derive(Clone, Copy)]
enum Load {
    /// Datagrams of this size.
    Datagrams(usize),
    /// Round trips of 64 bytes over Unix streams.
    Unix,
}

impl Load {
    fn name(self) -> String {
        match self {
            Self::Datagrams(size) => format!("datagrams {size} B"),
            Self::Unix => "unix ping-pong 64 B".to_owned(),
        }
    }

    /// The servers beside the native one: component and dispatch.
    fn served(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Datagrams(_) => &[
                ("echo-datagram", "poll"),
                ("echo-datagram", "threaded"),
                ("echo-datagram", "sequential"),
                ("echo-datagram-concurrent", "poll"),
            ],
            Self::Unix => &[
                ("echo-evented", "poll"),
                ("echo-blocking", "threaded"),
                ("echo-concurrent", "poll"),
            ],
        }
    }
}

/// A server with its results.
struct Contestant {
    name: String,
    server: Server,
    rates: Vec<f64>,
    /// Nanoseconds of processor time per operation.
    costs: Vec<f64>,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments
        .iter()
        .any(|argument| argument == NATIVE_DATAGRAMS)
    {
        return native_datagrams();
    }
    if let Some(at) = arguments
        .iter()
        .position(|argument| argument == NATIVE_UNIX)
    {
        let path = arguments.get(at + 1).ok_or("no path")?;
        return native_unix(path.as_ref());
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let clients = runtime()?;
    println!(
        "{:<22} {:<32} {:>9} {:>9} {:>12}",
        "load", "server", "rate", "cost", "ns per op"
    );
    for load in [Load::Datagrams(64), Load::Datagrams(1400), Load::Unix] {
        run(&clients, load, filter.map(String::as_str))?;
    }
    Ok(())
}

/// Runs one load against all servers, and prints their lines.
fn run(clients: &Runtime, load: Load, filter: Option<&str>) -> Result<()> {
    let directory = std::env::temp_dir().join(format!("sockserve-bench-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let mut all = contestants(load, filter, &directory)?;
    for _ in 0..RUNS {
        for contestant in &mut all {
            let before = processor_time(&contestant.server)?;
            let place = Place {
                address: contestant.server.address,
                path: directory.join(&contestant.name),
            };
            let count = clients.block_on(ask(load, &place))?;
            let used = processor_time(&contestant.server)?.saturating_sub(before);
            let operations = f64::from(u32::try_from(count.max(1))?);
            contestant.rates.push(operations / RUN.as_secs_f64());
            let nanoseconds = used.as_secs_f64() * 1e9;
            contestant.costs.push(nanoseconds / operations);
        }
    }
    let native = all.first().ok_or("no native server")?;
    let (native_rate, native_cost) = (median(&native.rates), median(&native.costs));
    for contestant in &all {
        println!(
            "{:<22} {:<32} {:>9.2} {:>9.2} {:>12.0}",
            load.name(),
            contestant.name,
            median(&contestant.rates) / native_rate,
            median(&contestant.costs) / native_cost,
            median(&contestant.costs),
        );
    }
    fs::remove_dir_all(&directory)?;
    Ok(())
}

/// Starts the servers, the native one first.
fn contestants(load: Load, filter: Option<&str>, directory: &Path) -> Result<Vec<Contestant>> {
    let own = std::env::current_exe()?;
    let mut commands = Vec::new();
    let mut native = Command::new(&own);
    match load {
        Load::Datagrams(_) => native.arg(NATIVE_DATAGRAMS),
        Load::Unix => native.arg(NATIVE_UNIX).arg(directory.join("native Tokio")),
    };
    commands.push(("native Tokio".to_owned(), native));
    for (component, dispatch) in load.served() {
        let name = format!("{component} {dispatch}");
        if filter.is_some_and(|filter| !name.contains(filter)) {
            continue;
        }
        let listen = match load {
            Load::Datagrams(_) => "udp://127.0.0.1:0".to_owned(),
            Load::Unix => format!("unix://{}", directory.join(&name).display()),
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
        command.args(["serve", &format!("builtin:{component}"), "--workers", "1"]);
        command.args(["--dispatch", dispatch]);
        if matches!(load, Load::Unix) {
            // Its ready line comes first, and has an address.
            command.args(["--listen", "tcp://127.0.0.1:0"]);
        }
        command.args(["--listen", &listen]);
        commands.push((name, command));
    }
    if matches!(load, Load::Datagrams(_)) && filter.is_none() {
        let mut python = Command::new("python3");
        python.args(["-c", PYTHON]);
        commands.push(("CPython socketserver".to_owned(), python));
    }
    let started = commands.into_iter().map(|(name, mut command)| {
        Ok(Contestant {
            server: Server::start(&mut command, Stdio::null())?,
            name,
            rates: Vec::new(),
            costs: Vec::new(),
        })
    });
    started.collect()
}

/// Where a server is.
struct Place {
    address: SocketAddr,
    path: PathBuf,
}

/// Asks a server for the time of a run. Returns how many answers there were.
async fn ask(load: Load, place: &Place) -> Result<usize> {
    let until = Instant::now() + RUN;
    let mut tasks = JoinSet::new();
    for _ in 0..CLIENTS {
        let (address, path) = (place.address, place.path.clone());
        tasks.spawn(async move {
            match load {
                Load::Datagrams(size) => datagrams(address, size, until).await,
                Load::Unix => ping_pong(UnixStream::connect(path).await?, until).await,
            }
        });
    }
    let mut total = 0;
    while let Some(count) = tasks.join_next().await {
        total += count??;
    }
    Ok(total)
}

async fn datagrams(address: SocketAddr, size: usize, until: Instant) -> std::io::Result<usize> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(address).await?;
    let (message, mut answer) = (vec![7; size], vec![0; size + 1]);
    let mut count = 0;
    while Instant::now() < until {
        socket.send(&message).await?;
        match tokio::time::timeout(LOST, socket.recv(&mut answer)).await {
            Ok(length) => {
                assert_eq!(length?, size, "an answer is whole");
                count += 1;
            }
            Err(_) => eprintln!("a datagram was lost"),
        }
    }
    Ok(count)
}

/// How much processor time a server has used, user and system.
fn processor_time(server: &Server) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{}/task", server.child.id()))? {
        let stat = fs::read_to_string(task?.path().join("schedstat"))?;
        let used = stat.split_whitespace().next().ok_or("no schedstat")?;
        nanoseconds += used.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// The native server of datagrams: one at a time.
fn native_datagrams() -> Result<()> {
    runtime()?.block_on(async {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        println!("listening udp://{}", socket.local_addr()?);
        let mut buffer = vec![0; 1 << 16];
        loop {
            let (length, peer) = socket.recv_from(&mut buffer).await?;
            let data = buffer.get(..length).ok_or("too long")?;
            socket.send_to(data, peer).await?;
        }
    })
}

/// The native server of Unix streams: one task per connection.
fn native_unix(path: &Path) -> Result<()> {
    runtime()?.block_on(async {
        let listener = UnixListener::bind(path)?;
        println!("listening tcp://127.0.0.1:0");
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(echo(stream));
        }
    })
}
