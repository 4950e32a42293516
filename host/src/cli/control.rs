//! `sockserve status`, `swap`, `promote`, `rollback`, `drain`, `shutdown`: requests to a
//! running `sockserve serve --control PATH`.

use super::Failure;
use super::config::difference::Difference;
use super::progress::Progress;
use super::serve::ChangedLimits;
use super::status;
use crate::component::builtin;
use crate::control::client::{Question, ask};
use crate::control::{DrainReply, RollbackRequest, StateReply, StatusReply, SwapRequest};
use crate::service::swap::{OldConnections, Swapped};
use crate::{CanaryOptions, Dispatch, Grants};
use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Which process to ask.
#[derive(Args)]
pub(super) struct Socket {
    /// The control socket of the running process
    #[arg(long, value_name = "PATH", env = "SOCKSERVE_CONTROL")]
    pub(super) control: PathBuf,
}

/// Which process to ask, and how to print its answer.
#[derive(Args)]
pub(super) struct Target {
    #[command(flatten)]
    socket: Socket,
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
    #[arg(value_parser = super::serve::parse_name)]
    service: String,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(super) struct DrainOptions {
    #[command(flatten)]
    one: ServiceOptions,
    /// Return when the service has ended
    #[arg(long)]
    wait: bool,
}

#[derive(Args)]
pub(super) struct ShutdownOptions {
    #[command(flatten)]
    target: Target,
    /// Return when all services have ended
    #[arg(long)]
    wait: bool,
}

#[derive(Args)]
pub(super) struct RollbackOptions {
    /// The service's name
    #[arg(value_parser = super::serve::parse_name)]
    service: String,
    /// The version to go to, by its number; to be named if it was taken back by
    /// itself
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
    /// Leave behind what the instance of the current version knows (instance-state)
    #[arg(long)]
    discard_state: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(super) struct SwapOptions {
    /// The service's name
    #[arg(value_parser = super::serve::parse_name)]
    service: String,
    /// A component file, or builtin:NAME. A pipe, and what is in /dev or /proc,
    /// is read here and sent: /dev/stdin, <(command). Without one it is the present
    /// component, with other settings
    component: Option<OsString>,
    /// What becomes of the old version's connections [default: hand-over where
    /// both versions can, else drain]
    #[arg(long, value_enum)]
    old: Option<OldArgument>,
    /// How long they may stay with it [default: the service's drain timeout if
    /// they drain, without limit if they are handed over]
    #[arg(long, value_name = "TIME", value_parser = crate::limits::parse_time)]
    drain_timeout: Option<std::time::Duration>,
    /// A connection to try the new version with before any user's:
    /// send=TEXT,expect=TEXT, with the escapes \r, \n, \t, \0, \\, \, and \xHH
    #[arg(long, value_name = "PROBE")]
    probe: Option<crate::Probe>,
    /// Leave behind what the instance of the old version knows (instance-state). A
    /// new version that does not take it over is refused otherwise
    #[arg(long)]
    discard_state: bool,
    /// Let this share of the new connections go to the new version first; open ones stay
    /// with the old version. 1 to 100
    #[arg(long, value_name = "PERCENT", value_parser = CanaryOptions::parse_percent)]
    canary: Option<u8>,
    /// How long at least, before all go there. It also takes as many ended connections as
    /// a rollback would [default: 60s]
    #[arg(long, value_name = "TIME", requires = "canary", value_parser = crate::limits::parse_time)]
    canary_for: Option<std::time::Duration>,
    /// Set an environment variable of the handler; the others stay as they are. May be
    /// repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = Grants::parse_env)]
    env: Vec<(String, String)>,
    /// Take an environment variable away. May be repeated
    #[arg(long, value_name = "NAME")]
    unset_env: Vec<String>,
    /// Another dispatch: sequential, threaded or poll. Those of datagrams stay as they are
    #[arg(long)]
    dispatch: Option<Dispatch>,
    #[command(flatten)]
    limits: ChangedLimits,
    #[command(flatten)]
    target: Target,
}

impl SwapOptions {
    /// Whether a setting is to change.
    fn changes_settings(&self) -> bool {
        let is_same = self.env.is_empty() && self.unset_env.is_empty() && self.limits.0.is_empty();
        !is_same || self.dispatch.is_some()
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum OldArgument {
    /// They continue with the new version; one that it refuses stays where it is
    HandOver,
    /// They finish; what is open at the drain timeout is closed
    Drain,
    /// They are closed
    Abort,
}

impl Target {
    /// Sends the question. Prints the answer by `print`, or as JSON.
    pub(super) fn ask<R: serde::de::DeserializeOwned + Serialize>(
        &self,
        question: Question,
        print: impl FnOnce(&mut dyn std::io::Write, &R) -> std::io::Result<()>,
    ) -> Result<ExitCode, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start")?;
        let reply: R = runtime.block_on(ask(&self.socket.control, question))?;
        let mut stdout = super::output::stdout();
        if self.json {
            writeln!(stdout, "{}", serde_json::to_string(&reply)?)?;
        } else {
            print(&mut stdout, &reply)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn status(options: &StatusOptions) -> Result<ExitCode, Failure> {
    let print = |out: &mut dyn std::io::Write, reply: &StatusReply| {
        for status in &reply.services {
            status::print(out, status)?;
        }
        Ok(())
    };
    options.target.ask(Question::status(), print)
}

pub(super) fn swap(options: &SwapOptions) -> Result<ExitCode, Failure> {
    if matches!(options.old, Some(OldArgument::Abort)) && options.drain_timeout.is_some() {
        return Err(Failure::usage(anyhow!(
            "--drain-timeout has no effect with --old abort, which closes connections at once; \
             use --old drain, or leave it out"
        )));
    }
    if options.component.is_none() && !options.changes_settings() {
        return Err(Failure::usage(anyhow!(
            "nothing would change; name a component, or a setting such as --env NAME=VALUE or \
             --max-memory SIZE"
        )));
    }
    let limits = options.limits.0.iter();
    let limits = limits.map(|(name, value)| (name.clone(), value.clone().into()));
    let mut request = SwapRequest {
        component: None,
        old: options.old.map(|old| match old {
            OldArgument::HandOver => OldConnections::HandOver,
            OldArgument::Drain => OldConnections::Drain,
            OldArgument::Abort => OldConnections::Abort,
        }),
        drain_timeout: options
            .drain_timeout
            .map(|timeout| humantime::format_duration(timeout).to_string()),
        probe: options.probe.as_ref().map(ToString::to_string),
        discard_state: options.discard_state,
        env: options.env.iter().cloned().collect(),
        unset_env: options.unset_env.clone(),
        dispatch: options.dispatch.map(|dispatch| dispatch.to_string()),
        limits: limits.collect(),
        canary: options.canary.map(u32::from),
        canary_for: options
            .canary_for
            .map(|time| humantime::format_duration(time).to_string()),
    };
    let service = &options.service;
    let question = match &options.component {
        None => Question::swap(service, &request)?,
        Some(component) => match place_of(component)? {
            Place::Everywhere(component) => {
                request.component = Some(component);
                Question::swap(service, &request)?
            }
            Place::OnlyHere => {
                request.component = Some(component.to_string_lossy().into_owned());
                let component = builtin::load_argument(component)?;
                Question::swap_component(service, &request, component.bytes().to_vec())?
            }
        },
    };
    let print = |out: &mut dyn std::io::Write, reply: &_| print_swapped(out, service, reply);
    let _progress = Progress::show(format!("swapping {service}"));
    options.target.ask(question, print)
}

pub(super) fn promote(options: &ServiceOptions) -> Result<ExitCode, Failure> {
    let service = &options.service;
    let print = |out: &mut dyn std::io::Write, reply: &_| print_swapped(out, service, reply);
    options.target.ask(Question::promote(service), print)
}

pub(super) fn rollback(options: &RollbackOptions) -> Result<ExitCode, Failure> {
    let service = &options.service;
    let request = RollbackRequest {
        to: options.to,
        discard_state: options.discard_state,
    };
    let print = |out: &mut dyn std::io::Write, reply: &_| print_swapped(out, service, reply);
    let question = Question::rollback(service, &request)?;
    options.target.ask(question, print)
}

pub(super) fn drain(options: &DrainOptions) -> Result<ExitCode, Failure> {
    let question = Question::drain(&options.one.service);
    end(&options.one.target, question, options.wait)
}

pub(super) fn shutdown(options: &ShutdownOptions) -> Result<ExitCode, Failure> {
    end(&options.target, Question::shutdown(), options.wait)
}

fn end(target: &Target, question: Question, wait: bool) -> Result<ExitCode, Failure> {
    let question = if wait { question.and_wait() } else { question };
    let _progress = wait.then(|| Progress::show("draining".to_owned()));
    target.ask(question, print_draining)
}

pub(super) fn reload(options: &StatusOptions) -> Result<ExitCode, Failure> {
    let print = |out: &mut dyn std::io::Write, difference: &Difference| {
        for line in difference.lines() {
            writeln!(out, "{line}")?;
        }
        Ok(())
    };
    let _progress = Progress::show("reloading".to_owned());
    options.target.ask(Question::reload(), print)
}

pub(super) fn suspend(options: &ServiceOptions) -> Result<ExitCode, Failure> {
    let question = Question::suspend(&options.service);
    options.target.ask(question, print_state)
}

pub(super) fn resume(options: &ServiceOptions) -> Result<ExitCode, Failure> {
    let question = Question::resume(&options.service);
    options.target.ask(question, print_state)
}

fn print_state(out: &mut dyn std::io::Write, reply: &StateReply) -> std::io::Result<()> {
    let state = serde_json::to_value(reply.state)?;
    let state = state.as_str().unwrap_or_default();
    writeln!(out, "{} is {state}", reply.service)
}

/// Which process reads a component.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// The running process, under this name.
    Everywhere(String),
    /// This process, which then sends the component: the running process may have
    /// another file under the path, or the path cannot be sent to it.
    OnlyHere,
}

/// Decides which process reads the component.
fn place_of(component: &OsStr) -> Result<Place, Failure> {
    if let Some(component) = component.to_str()
        && component.starts_with(builtin::PREFIX)
    {
        return Ok(Place::Everywhere(component.to_owned()));
    }
    // The running process may have another working directory.
    let path = std::path::absolute(component).with_context(|| {
        let component = Path::new(component);
        format!("{}: no path that can be resolved", component.display())
    })?;
    let is_pipe = std::fs::metadata(&path).is_ok_and(|data| data.file_type().is_fifo());
    match path.to_str() {
        Some(text) if !is_pipe && !leads_to_devices(&path) => {
            Ok(Place::Everywhere(text.to_owned()))
        }
        _ => Ok(Place::OnlyHere),
    }
}

/// Whether the path is in /dev or /proc, or is a link that leads there. Such a path
/// may be another file in every process.
fn leads_to_devices(path: &Path) -> bool {
    let mut path = path.to_owned();
    // The kernel follows as many links.
    for _ in 0..40 {
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
            && let Ok(parent) = parent.canonicalize()
        {
            path = parent.join(name);
        }
        if path.starts_with("/dev") || path.starts_with("/proc") {
            return true;
        }
        match (path.read_link(), path.parent()) {
            (Ok(target), Some(parent)) => path = parent.join(target),
            _ => return false,
        }
    }
    false
}

fn print_swapped(
    out: &mut dyn std::io::Write,
    service: &str,
    swapped: &Swapped,
) -> std::io::Result<()> {
    let Swapped {
        version, sha256, ..
    } = swapped;
    if let Some(percent) = swapped.canary {
        writeln!(
            out,
            "{service} has version {version} as a canary, sha256 {sha256}; {percent} of 100 new \
             connections go to it"
        )
    } else if let Some(old) = swapped.old {
        let old = match old {
            OldConnections::HandOver => "are handed over",
            OldConnections::Drain => "drain",
            OldConnections::Abort => "are closed",
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
        if let Some(bytes) = swapped.state {
            write!(out, "; {bytes} bytes of state taken over")?;
        }
        if swapped.state_lost {
            let lost = "the instance died as it was to save what it knew, and that is lost";
            write!(out, "; {lost}")?;
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
        let state = if reply.ended {
            "has ended"
        } else {
            "is draining"
        };
        writeln!(out, "{service} {state}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_only_this_process_has_is_sent() {
        let directory = std::env::temp_dir().join(format!("place-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let at = |name: &str| directory.join(name).into_os_string();
        let check = |component: &OsStr, expected: Option<&OsStr>| {
            let expected = match expected {
                Some(path) => Place::Everywhere(path.to_str().unwrap().to_owned()),
                None => Place::OnlyHere,
            };
            assert_eq!(place_of(component).unwrap(), expected, "{component:?}");
        };
        std::fs::write(at("file"), "").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("/dev/stdin", at("stdin")).unwrap();
        symlink("stdin", at("to-stdin")).unwrap();
        symlink("/proc/self/fd", at("fd")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for name in ["file", "link", "absent", "loop"] {
            check(&at(name), Some(&at(name)));
        }
        check("builtin:x".as_ref(), Some("builtin:x".as_ref()));
        check("/etc/passwd".as_ref(), Some("/etc/passwd".as_ref()));
        for name in ["stdin", "to-stdin", "fd/0"] {
            check(&at(name), None);
        }
        check("/dev/stdin".as_ref(), None);
        check("/dev/fd/0".as_ref(), None);
        check("/proc/self/fd/0".as_ref(), None);
        check("/proc/thread-self/fd/0".as_ref(), None);
        check("/tmp/../dev/stdin".as_ref(), None);
        check(OsStr::from_bytes(b"/tmp/\xff"), None);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
