//! `sockserve demo`: serves the embedded components on free loopback ports. Real
//! clients use each of them and check every byte. At the end a handler is swapped
//! under an open connection.
//!
//! All clients run on one thread. The services have their own threads, in the same
//! process. All traffic is TCP and UDP over loopback, and Unix sockets.

mod chat;
mod ctime;
mod datagrams;
mod line;
mod report;
mod swap;

use super::Failure;
use super::output::complain;
use super::signals::Caught;
use crate::aside::aside;
use crate::{
    Dispatch, Grants, Handler, HandlerOptions, Limits, LocalAddress, Service, ServiceOptions,
    Transport, builtin,
};
use anyhow::Context as _;
use clap::Args;
use report::{Meter, Row};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long all clients of one service together may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args)]
pub(super) struct Options {
    /// Clients of each echo and time service, all at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5000), default_value_t = 200)]
    connections: u32,
    /// Round trips of each client
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value_t = 25)]
    round_trips: u32,
    /// Members of each chat room
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=500), default_value_t = 40)]
    members: u32,
}

/// What the clients of a service do.
#[derive(Clone, Copy)]
enum Traffic {
    Echo,
    Time,
    Chat,
}

struct Plan {
    traffic: Traffic,
    transport: Transport,
    builtin: &'static str,
    dispatch: Dispatch,
}

/// Returns the runs: every family in every contract, under `threaded` and under
/// `poll`, over TCP or UDP; and one over a Unix socket.
fn plans() -> Vec<Plan> {
    let mut plans = Vec::new();
    for builtin in builtin::all() {
        let traffic = match builtin.name.split('-').next() {
            Some("echo") => Traffic::Echo,
            Some("time") => Traffic::Time,
            Some("chat") => Traffic::Chat,
            _ => continue,
        };
        let transport = if builtin.name.contains("-datagram") {
            Transport::Udp
        } else {
            Transport::Tcp
        };
        for dispatch in [Dispatch::Threaded, Dispatch::Poll] {
            plans.push(Plan {
                traffic,
                transport,
                builtin: builtin.name,
                dispatch,
            });
        }
    }
    plans.push(Plan {
        traffic: Traffic::Echo,
        transport: Transport::Unix,
        builtin: "echo-evented",
        dispatch: Dispatch::Poll,
    });
    plans
}

/// The main thread waits for signals. The demo compiles and runs its clients on
/// another thread.
pub(super) fn run(options: Options, caught: Caught) -> Result<ExitCode, Failure> {
    let Caught {
        runtime,
        mut ends,
        mut hang_ups,
    } = caught;
    let demo = aside("demo", move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        runtime.block_on(run_all(&options))
    });
    runtime.block_on(async {
        tokio::select! {
            result = demo => result.context("cannot start")?,
            () = ends.next() => interrupted(),
            () = hang_ups.next() => interrupted(),
        }
    })
}

fn interrupted() -> Result<ExitCode, Failure> {
    complain("the demo was interrupted");
    Ok(ExitCode::FAILURE)
}

async fn run_all(options: &Options) -> Result<ExitCode, Failure> {
    let mut rows = Vec::new();
    for plan in plans() {
        if let Some(row) = run_one(&plan, options).await? {
            rows.push(row);
        }
    }
    report::print(&rows).context("cannot print the table")?;
    let swapped = tokio::time::timeout(PATIENCE, swap::show())
        .await
        .context("the live swap took too long")??;
    let wrong = rows.iter().any(Row::is_wrong) || !swapped;
    Ok(if wrong {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Starts one service, runs its clients, and stops it. `None` if the contract
/// cannot run under the dispatch, or if a chat room would be split over several
/// instances.
async fn run_one(plan: &Plan, options: &Options) -> Result<Option<Row>, Failure> {
    let source = format!("{}{}", builtin::PREFIX, plan.builtin);
    let component = builtin::load(&source)?;
    let contract = component.contract();
    let isolated = !plan.dispatch.shares_instance(contract);
    let needs_room = matches!(plan.traffic, Traffic::Chat);
    if contract.check(plan.dispatch).is_err() || (needs_room && isolated) {
        return Ok(None);
    }
    let (name, env) = match plan.traffic {
        Traffic::Echo => ("echo", vec![]),
        Traffic::Time if plan.transport == Transport::Udp => ("time", vec![]),
        Traffic::Time => ("time", vec![("MODE".to_owned(), "line".to_owned())]),
        Traffic::Chat => ("chat", vec![]),
    };
    let limits = Limits {
        max_connections: options.connections.max(options.members) + 8,
        ..Limits::default()
    };
    let grants = Grants {
        env,
        ..Grants::default()
    };
    let handler_options = HandlerOptions {
        limits,
        grants,
        ..HandlerOptions::new(plan.dispatch)
    };
    let handler = Handler::new(&source, &component, handler_options)?;
    let mut service = Service::start(service_options(name, plan.transport)?, handler)?;
    let address = service
        .local_addresses()
        .into_iter()
        .next()
        .context("the service has no address")?;
    let meter = Arc::new(Meter::new(format!("{name} {contract} {}", plan.dispatch)));
    let driving = drive(plan.traffic, &address, options, &meter);
    let result = tokio::select! {
        result = tokio::time::timeout(PATIENCE, driving) => {
            result.unwrap_or_else(|_| Err(anyhow::anyhow!("no end after {PATIENCE:?}")))
        }
        never = meter.show_progress() => match never {},
    };
    meter.clear_progress();
    service.drain();
    service.ended().await.context("the service ended")?;
    let row = Row::new(&service, &meter, result);
    Ok(Some(row))
}

/// A service on a free port of the loopback interface, or on a name that only this
/// process has.
fn service_options(name: &str, transport: Transport) -> anyhow::Result<ServiceOptions> {
    let url = match transport {
        Transport::Unix => format!("unix:@sockserve-demo-{}", std::process::id()),
        transport => format!("{transport}://127.0.0.1:0"),
    };
    Ok(ServiceOptions::new(name, [url.parse()?]))
}

async fn drive(
    traffic: Traffic,
    address: &LocalAddress,
    options: &Options,
    meter: &Arc<Meter>,
) -> anyhow::Result<()> {
    let ip = || address.ip().context("the service is not on the network");
    match (traffic, address.transport()) {
        (Traffic::Chat, _) => chat::drive(ip()?, options, meter).await,
        (Traffic::Echo, Transport::Udp) => {
            datagrams::drive(line::Kind::Echo, ip()?, options, meter).await
        }
        (Traffic::Time, Transport::Udp) => {
            datagrams::drive(line::Kind::Time, ip()?, options, meter).await
        }
        (Traffic::Echo, _) => line::drive(line::Kind::Echo, address, options, meter).await,
        (Traffic::Time, _) => line::drive(line::Kind::Time, address, options, meter).await,
    }
}
