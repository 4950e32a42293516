//! `sockserve status`, `swap`, `rollback`, `drain`, `shutdown`: requests to a
//! running `sockserve serve --control PATH`.

use super::Failure;
use crate::builtin;
use crate::control::client::ask;
use crate::control::{DrainReply, RollbackRequest, StatusReply, SwapRequest};
use crate::service::swap::{Old, Swapped};
use crate::{HandOverCounts, Status, VersionState};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Whom to ask, and how to print the answer.
#[derive(Args)]
pub(super) struct Target {
    /// The control socket of the running process
    #[arg(long, value_name = "PATH", env = "SOCKSERVE_CONTROL")]
    control: PathBuf,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct StatusOptions {
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(super) struct ServiceOptions {
    /// The service's name
    service: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(super) struct RollbackOptions {
    /// The service's name
    service: String,
    /// The version to go to, by its number; to be named if it was taken back by
    /// itself
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(super) struct SwapOptions {
    /// The service's name
    service: String,
    /// A component file, or builtin:NAME
    component: String,
    /// What becomes of the old version's connections [default: hand-over where
    /// both versions can, else drain]
    #[arg(long, value_enum)]
    old: Option<OldArgument>,
    /// How long they may go on with it [default: the service's drain timeout if
    /// they drain, without limit if they are handed over]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    drain_timeout: Option<std::time::Duration>,
    /// A connection to try the new version with before any user's:
    /// send=TEXT,expect=TEXT, with the escapes \r, \n, \t, \0, \\, \, and \xHH
    #[arg(long, value_name = "PROBE")]
    probe: Option<crate::Probe>,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, ValueEnum)]
enum OldArgument {
    /// They go on, on the new version; one that it refuses stays where it is
    HandOver,
    /// They finish; what is open at the drain timeout is closed
    Drain,
    /// They are closed
    Abort,
}

impl Target {
    /// Asks, and prints the answer by `print` or as JSON.
    fn ask<R: serde::de::DeserializeOwned + Serialize>(
        &self,
        path: &str,
        body: Option<&(impl Serialize + Sync)>,
        print: impl FnOnce(&mut dyn std::io::Write, &R) -> std::io::Result<()>,
    ) -> Result<ExitCode, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot start")?;
        let reply: R = runtime.block_on(ask(&self.control, path, body))?;
        let mut stdout = std::io::stdout().lock();
        if self.json {
            writeln!(stdout, "{}", serde_json::to_string(&reply)?)?;
        } else {
            print(&mut stdout, &reply)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The body of a request that has nothing to say.
const NOTHING: Option<&()> = None;
const EMPTY: Option<&()> = Some(&());

pub(super) fn status(options: &StatusOptions) -> Result<ExitCode, Failure> {
    options
        .target
        .ask("/v1/status", NOTHING, |out, reply: &StatusReply| {
            for status in &reply.services {
                print_status(out, status)?;
            }
            Ok(())
        })
}

pub(super) fn swap(options: &SwapOptions) -> Result<ExitCode, Failure> {
    let request = SwapRequest {
        component: absolute(&options.component)?,
        old: options.old.map(|old| match old {
            OldArgument::HandOver => Old::HandOver,
            OldArgument::Drain => Old::Drain,
            OldArgument::Abort => Old::Abort,
        }),
        drain_timeout: options
            .drain_timeout
            .map(|timeout| humantime::format_duration(timeout).to_string()),
        probe: options.probe.as_ref().map(ToString::to_string),
    };
    let path = format!("/v1/services/{}/swap", options.service);
    options.target.ask(&path, Some(&request), |out, reply| {
        print_swapped(out, &options.service, reply)
    })
}

pub(super) fn rollback(options: &RollbackOptions) -> Result<ExitCode, Failure> {
    let path = format!("/v1/services/{}/rollback", options.service);
    let request = RollbackRequest { to: options.to };
    options.target.ask(&path, Some(&request), |out, reply| {
        print_swapped(out, &options.service, reply)
    })
}

pub(super) fn drain(options: &ServiceOptions) -> Result<ExitCode, Failure> {
    let path = format!("/v1/services/{}/drain", options.service);
    options.target.ask(&path, EMPTY, print_draining)
}

pub(super) fn shutdown(options: &StatusOptions) -> Result<ExitCode, Failure> {
    options.target.ask("/v1/shutdown", EMPTY, print_draining)
}

/// The running process may have another working directory.
fn absolute(component: &str) -> Result<String, Failure> {
    if component.starts_with(builtin::PREFIX) {
        return Ok(component.to_owned());
    }
    let path = std::path::absolute(component)
        .with_context(|| format!("{component}: no path that can be resolved"))?;
    Ok(path.display().to_string())
}

fn print_swapped(
    out: &mut dyn std::io::Write,
    service: &str,
    swapped: &Swapped,
) -> std::io::Result<()> {
    let Swapped {
        version, sha256, ..
    } = swapped;
    if let Some(old) = swapped.old {
        let old = match old {
            Old::HandOver => "are handed over",
            Old::Drain => "drain",
            Old::Abort => "are closed",
        };
        write!(
            out,
            "{service} is at version {version}, sha256 {sha256}; open connections {old}"
        )?;
        if swapped.staying > 0 {
            let count = swapped.staying;
            write!(out, ", {count} of them still with the version before")?;
        }
        if swapped.lost > 0 {
            let count = swapped.lost;
            write!(out, "; {count} of them failed meanwhile and were closed")?;
        }
        writeln!(out)
    } else {
        writeln!(
            out,
            "{service} stays at version {version}, which is this component"
        )
    }
}

fn print_draining(out: &mut dyn std::io::Write, reply: &DrainReply) -> std::io::Result<()> {
    for service in &reply.draining {
        writeln!(out, "{service} is draining")?;
    }
    Ok(())
}

fn print_status(out: &mut dyn std::io::Write, status: &Status) -> std::io::Result<()> {
    let state = serde_json::to_value(status.state)?;
    writeln!(
        out,
        "{}  {}  contract={} dispatch={} {}",
        status.name,
        state.as_str().unwrap_or_default(),
        status.contract,
        status.dispatch,
        status.listeners.join(" "),
    )?;
    writeln!(
        out,
        "  connections  accepted {}  open {}  handled {}  refused {}  failed {}",
        status.accepted,
        status.open,
        status.handled,
        status.refused,
        status.failed.total(),
    )?;
    let failed = &status.failed;
    if failed.total() > 0 {
        writeln!(
            out,
            "  failed       error {}  trap {}  deadline {}  memory {}  instantiate {}  panic {}  \
             host {}  peer {}  aborted {}",
            failed.error,
            failed.trap,
            failed.deadline,
            failed.memory,
            failed.instantiate,
            failed.panic,
            failed.host,
            failed.peer,
            failed.aborted,
        )?;
    }
    writeln!(
        out,
        "  bytes        in {}  out {}",
        status.bytes_in, status.bytes_out
    )?;
    let moved = status.hand_overs;
    if moved != HandOverCounts::default() {
        writeln!(
            out,
            "  hand-overs   done {}  refused {}",
            moved.handed_over, moved.refused
        )?;
    }
    for version in &status.versions {
        let mark = match version.state {
            VersionState::Current => "*",
            VersionState::Draining => " ",
        };
        writeln!(
            out,
            "{mark} version {:<4} {}  sha256 {}  loaded {}  connections {}",
            version.number,
            version.source,
            version.sha256.get(..12).unwrap_or(&version.sha256),
            version.loaded_at,
            version.connections,
        )?;
    }
    if let Some(previous) = &status.previous {
        write!(
            out,
            "  rollback     to version {} {}",
            previous.number, previous.source
        )?;
        match &previous.condemned {
            None => writeln!(out)?,
            Some(reason) => writeln!(
                out,
                ", only if named (--to {}): it was taken back because {reason}",
                previous.number
            )?,
        }
    }
    if let Some(reason) = &status.rolled_back {
        writeln!(out, "  {reason}")?;
    }
    Ok(())
}
