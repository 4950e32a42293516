//! One measurement: a server is started, given its work, watched and ended.

mod idle;
pub(crate) mod process;
mod rate;
mod swap;
pub(crate) mod usage;

use crate::client::socket::TooSlow;
use crate::servers::Server;
use crate::servers::command::{self, Files};
use crate::servers::running::Running;
use crate::servers::tools::Tools;
use crate::system::Cores;
use crate::work::Work;
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use usage::{Spent, Usage};

/// What was measured once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// In the unit of the work.
    pub(crate) value: f64,
    /// Processor time of the server per operation, if the work has operations.
    pub(crate) cost: Option<Cost>,
    /// Which share of the time the server has worked: 1 is one core all the time.
    pub(crate) server_busy: Option<f64>,
    /// The same of the clients' thread.
    pub(crate) client_busy: Option<f64>,
    /// What else there is to say, with the unit in the name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) more: BTreeMap<String, f64>,
}

/// Processor time per operation, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    pub(crate) total: f64,
    /// `None` if the time was too short to tell.
    pub(crate) user: Option<f64>,
    pub(crate) system: Option<f64>,
}

impl Cost {
    /// Shares out what was spent among the operations.
    fn per_operation(spent: &Spent, operations: u64) -> Self {
        let total = spent.total.as_secs_f64() * 1e9 / float(operations.max(1));
        Self {
            total,
            user: spent.user_share.map(|share| total * share),
            system: spent.user_share.map(|share| total * (1.0 - share)),
        }
    }
}

/// What all measurements have in common.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) tools: Tools,
    pub(crate) cores: Cores,
    pub(crate) times: Times,
    /// For what lasts as long as the benchmark.
    pub(crate) directory: PathBuf,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// How long work of a rate is done.
    pub(crate) window: Duration,
    /// How long the opening of many connections may take: a server for which that is not
    /// enough is not for that many.
    pub(crate) opening: Duration,
}

/// How a measurement came out.
#[derive(Debug)]
pub(crate) enum Outcome {
    Measured(Sample),
    /// Something is missing on this machine.
    Skipped(String),
    /// The server is not for so many connections.
    TooSlow(String),
    Failed(anyhow::Error),
}

/// Measures a server once.
pub(crate) fn measure(server: Server, work: Work, context: &Context) -> Outcome {
    let directory = context.directory.join("run");
    let cache = context.directory.join("cache");
    let files = Files {
        directory: &directory,
        cache: &cache,
    };
    if let Err(error) = fs::create_dir_all(&directory) {
        return Outcome::Failed(error.into());
    }
    let outcome = match command::command(server, work, &context.tools, &files) {
        Ok(mut command) => {
            let log = directory.join("log");
            let cores = work.cores();
            let running = Running::start(&mut command, &context.cores, cores, &log);
            let sample = running.and_then(|running| {
                let sample = of(&running, server, work, context, &files);
                sample.map_err(|error| running.explain(error))
            });
            match sample {
                Ok(sample) => Outcome::Measured(sample),
                Err(error) => match error.downcast_ref::<TooSlow>() {
                    Some(slow) => Outcome::TooSlow(slow.to_string()),
                    None => Outcome::Failed(error),
                },
            }
        }
        Err(missing) => Outcome::Skipped(format!("{missing:#}")),
    };
    let _ = fs::remove_dir_all(&directory);
    outcome
}

fn of(
    running: &Running,
    server: Server,
    work: Work,
    context: &Context,
    files: &Files<'_>,
) -> Result<Sample> {
    match work {
        Work::Idle { connections } => idle::measure(running, connections, context.times),
        Work::Start { .. } => start(running),
        Work::SwapPause { .. } | Work::SwapAnswer { .. } | Work::SwapDrain => {
            let Server::Ours(contract, _) = server else {
                anyhow::bail!("only sockserve swaps");
            };
            let swapping = swap::Swapping {
                running,
                contract,
                control: &files.control(),
                times: context.times,
            };
            swapping.measure(work)
        }
        _ => rate::measure(running, work, context.times),
    }
}

/// The start is over when this is called, and was timed.
fn start(running: &Running) -> Result<Sample> {
    let spent = Usage::of(running.pid())?.since(&Usage::default());
    let processor = spent.total.as_secs_f64() * 1e3;
    Ok(Sample {
        value: running.ready_after.as_secs_f64() * 1e3,
        more: BTreeMap::from([("processor time, ms".to_owned(), processor)]),
        ..Sample::default()
    })
}

/// Counts are far from 2^53, where this would round.
#[allow(clippy::cast_precision_loss, reason = "counts are small enough")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Makes the directory for what lasts as long as the benchmark. A cache must be ours alone.
pub(crate) fn make_directory() -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let name = format!("sockserve-benches-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let make = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    make(&directory)
        .and_then(|()| make(&directory.join("cache")))
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}
