//! Many connections, most of them hostile, during many swaps. Nothing may grow.
//!
//! `cargo bench --bench soak` runs the built `sockserve` under each contract and
//! dispatch in turn, with a million connections in all. The peers
//!
//! - talk, and check every byte of the answer; some of them stay open during
//!   swaps and are handed over;
//! - reset at once, after they have sent, or in the middle of an answer;
//! - half-close first, send single bytes, send urgent data, or send nothing;
//! - send much and never read, or read very late;
//! - make the guest trap, spin, take memory, fail, flood, or drop its resources.
//!
//! Meanwhile the handler is swapped through the control socket, with hand-over.
//! First the swaps are between echo and upper. There every answer has to be right,
//! and only peers may be the cause of a failure. Then the faults guests are swapped
//! in too; they give up and accept connections in each of the wrong ways.
//!
//! Twelve times per run the peers pause until no connection is open. Then the
//! resources of the process are one line of the table, and `accepted` must equal
//! `handled` plus `failed`. At the end, memory, descriptors, mappings and threads must
//! be as they were in the second third. If they are not, a line says so and the
//! exit status is 1.
//!
//! | option | |
//! | --- | --- |
//! | `--connections N` | how many connections in all; by default a million |
//! | `--minutes N` | how long it may take; by default 240. If it takes longer, that is a fault |
//! | `FILTER` | only runs whose name contains this |

mod peers;
#[path = "../server/mod.rs"]
mod server;
mod table;
mod target;

use peers::{Peers, Strictness};
use server::Result;
use std::time::{Duration, Instant};
use table::{Row, Table};
use target::Target;

/// The default number of connections in all.
const CONNECTIONS: u64 = 1_000_000;
/// The default time limit of all runs, in minutes.
const MINUTES: u64 = 240;
/// How often per run the resources of the process are looked at.
const POINTS: u64 = 12;
/// The number of connections between two swaps. Smaller in runs with few
/// connections.
const SWAP_AFTER: u64 = 400;
/// The smallest number of swaps between two looks.
const SWAPS: u64 = 4;

/// Contract and dispatch.
const SERVED: [(&str, &str); 7] = [
    ("blocking", "sequential"),
    ("blocking", "threaded"),
    ("blocking", "poll"),
    ("evented", "poll"),
    ("concurrent", "sequential"),
    ("concurrent", "threaded"),
    ("concurrent", "poll"),
];

/// What the faults guests do with a hand-over: one run each. A `HAND_OVER` that
/// waits is left out, because it would only measure the deadline.
const MANNERS: [&str; 9] = [
    "normal",
    "refuse",
    "trap-accept",
    "trap-hand-over",
    "trap-second",
    "none",
    "large",
    "garbage",
    "unknown",
];

/// One server, and the load on it.
struct Run {
    contract: &'static str,
    dispatch: &'static str,
    /// `HAND_OVER` of the faults guests. `None` if the run has no faults guests.
    manner: Option<&'static str>,
    connections: u64,
}

struct Options {
    connections: u64,
    until: Instant,
    filter: Option<String>,
}

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut faults = Vec::new();
    for run in runs(options.connections) {
        let name = run.name();
        if options.filter.as_ref().is_some_and(|it| !name.contains(it)) {
            continue;
        }
        println!("{name}: {} connections", run.connections);
        let found = runtime.block_on(run.go(options.until));
        let found = found.unwrap_or_else(|error| vec![error.to_string()]);
        for fault in &found {
            println!("  FAULT: {fault}");
        }
        faults.extend(found);
    }
    if faults.is_empty() {
        println!("flat");
        return Ok(());
    }
    println!("{} faults", faults.len());
    std::process::exit(1);
}

/// Returns the runs: half of the connections are without faults guests, half with
/// them.
fn runs(connections: u64) -> Vec<Run> {
    let pairs = SERVED.len() as u64;
    let clean = connections / 2 / pairs;
    // In half of the connections with faults guests, these hand over correctly.
    let manners = MANNERS.len() as u64;
    let each = connections / 4 / pairs / (manners - 1);
    let normal = connections / 4 / pairs;
    let mut runs = Vec::new();
    for (contract, dispatch) in SERVED {
        let run = |manner, connections| Run {
            contract,
            dispatch,
            manner,
            connections,
        };
        runs.push(run(None, clean));
        for manner in MANNERS {
            let count = if manner == "normal" { normal } else { each };
            runs.push(run(Some(manner), count));
        }
    }
    runs
}

impl Run {
    fn name(&self) -> String {
        let guests = match self.manner {
            None => "echo and upper".to_owned(),
            Some(manner) => format!("faults too, HAND_OVER={manner}"),
        };
        format!("{} {}, {guests}", self.contract, self.dispatch)
    }

    /// Runs it. Returns the faults, one line each.
    async fn go(&self, until: Instant) -> Result<Vec<String>> {
        let mut target = Target::start(self.contract, self.dispatch, self.manner)?;
        let strictness = match self.manner {
            None => Strictness::EveryByte,
            Some(_) => Strictness::Survive,
        };
        let mut peers = Peers::new(target.address(), strictness, self.dispatch == "sequential");
        let mut table = Table::default();
        let mut faults = Vec::new();
        let begun = Instant::now();
        for point in 1..=POINTS {
            let goal = self.connections * point / POINTS;
            while peers.made() < goal {
                if Instant::now() > until {
                    faults.push(format!("out of time after {} connections", peers.made()));
                    return Ok(faults);
                }
                let step = SWAP_AFTER.min(self.connections / POINTS / SWAPS).max(1);
                let next = (peers.made() + step).min(goal);
                let (talked, swapped) = tokio::join!(peers.make(next), target.swap());
                talked?;
                if let Err(error) = swapped {
                    faults.push(format!("a swap was refused: {error}"));
                }
            }
            peers.finish().await?;
            let status = match target.at_rest().await {
                Ok(status) => status,
                Err(error) => {
                    faults.push(error.to_string());
                    return Ok(faults);
                }
            };
            table.add(Row::new(&target.process.child, &status, begun.elapsed())?);
            faults.extend(check(&status, peers.made(), strictness));
        }
        faults.extend(peers.faults());
        faults.extend(table.faults());
        faults.extend(target.ends(Duration::from_secs(20))?);
        Ok(faults)
    }
}

/// Returns what is wrong at a time when no connection is open.
fn check(status: &sockserve::Status, made: u64, strictness: Strictness) -> Vec<String> {
    let mut faults = Vec::new();
    let failed = status.failed.total();
    if status.accepted != status.open + status.handled + failed {
        faults.push(format!(
            "accepted {} is not open {} + handled {} + failed {failed}",
            status.accepted, status.open, status.handled
        ));
    }
    if status.accepted > made {
        faults.push(format!(
            "accepted {} of {made} connections",
            status.accepted
        ));
    }
    if strictness == Strictness::EveryByte && failed != status.failed.peer {
        faults.push(format!("others than peers failed: {:?}", status.failed));
    }
    faults
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            connections: CONNECTIONS,
            until: Instant::now(),
            filter: None,
        };
        let mut minutes = MINUTES;
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let text = arguments.next().unwrap_or_default();
                text.parse::<u64>()
                    .map_err(|error| format!("{argument} {text}: {error}; write a number"))
            };
            match argument.as_str() {
                "--connections" => options.connections = number()?,
                "--minutes" => minutes = number()?,
                // Cargo adds this one.
                "--bench" => {}
                other if other.starts_with('-') => {
                    return Err(
                        format!("there is no {other}; write --connections or --minutes").into(),
                    );
                }
                other => options.filter = Some(other.to_owned()),
            }
        }
        options.until += Duration::from_secs(minutes.saturating_mul(60).min(1 << 30));
        Ok(options)
    }
}
