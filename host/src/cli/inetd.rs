//! `sockserve inetd`: serves the one socket that is standard input.

use super::Failure;
use super::serve::HandlerArgs;
use super::signals::Caught;
use crate::aside::aside;
use crate::limits::parse_time_over_zero;
use crate::listen::given::{self, Given};
use crate::{Service, ServiceOptions, StartError, text};
use anyhow::{Context as _, anyhow};
use clap::Args;
use rustix::fs::{FileType, fstat};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(Args)]
pub(super) struct Options {
    /// A component file, or builtin:NAME
    component: OsString,
    #[command(flatten)]
    handler: HandlerArgs,
    /// End when nothing has come to a listener or datagram socket for at least this
    /// long, and nothing is open. The program that has passed the socket starts
    /// another process when something comes
    #[arg(long, value_name = "TIME", value_parser = parse_time_over_zero, default_value = "60s")]
    idle: Duration,
    /// Append the log to a file
    #[arg(long, value_name = "PATH")]
    log_file: Option<PathBuf>,
    /// Take datagrams from the ports of inetd's small services (7, 13, 17, 19, 37) and
    /// from the service itself, whose answers could be answered without end
    #[arg(long)]
    allow_loops: bool,
}

/// Keeps text for people away from the peer: inetd passes the connection as standard
/// error too. Called before the arguments are parsed, because a refusal is such a text.
pub(super) fn keep_quiet(mut arguments: impl Iterator<Item = OsString>) {
    let is_inetd = arguments.any(|argument| argument == "inetd");
    if is_inetd && are_one_socket(io::stdin(), io::stderr()) {
        // If that fails, there is no place to report it.
        let _ = redirect_stderr(OpenOptions::new().write(true), "/dev/null".into());
    }
}

/// Opens the log's file, if one was asked for.
pub(super) fn open_log(options: &Options) -> anyhow::Result<()> {
    let Some(path) = &options.log_file else {
        return Ok(());
    };
    let mut file = OpenOptions::new();
    redirect_stderr(file.append(true).create(true), path.clone())
        .with_context(|| format!("cannot open the log {}", text::path(path)))
}

fn redirect_stderr(options: &OpenOptions, path: PathBuf) -> io::Result<()> {
    let file = options.open(path)?;
    nix::unistd::dup2_stderr(file)?;
    Ok(())
}

/// Whether both are the same socket.
fn are_one_socket(one: impl AsFd, other: impl AsFd) -> bool {
    let (Ok(one), Ok(other)) = (fstat(one), fstat(other)) else {
        return false;
    };
    let is_socket = FileType::from_raw_mode(one.st_mode).is_socket();
    is_socket && (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// Serves until the connection has ended, nothing comes any more, or a signal comes.
pub(super) fn run(options: Box<Options>, caught: Caught) -> Result<ExitCode, Failure> {
    let Caught {
        runtime,
        mut ends,
        hang_ups: _,
    } = caught;
    let options = Arc::from(options);
    let result = runtime.block_on(async {
        let started = tokio::select! {
            biased;
            () = ends.next() => return Ok(ExitCode::SUCCESS),
            started = start(&options) => started?,
        };
        let Some((mut service, is_connection)) = started else {
            tracing::info!("the connection was reset before it could be served");
            return Ok(ExitCode::SUCCESS);
        };
        let handle = service.handle();
        let ending = async {
            ends.next().await;
            handle.drain();
            ends.next().await;
        };
        tokio::select! {
            ended = service.ended() => ended.context("the service ended")?,
            () = ending => return Ok(ExitCode::FAILURE),
        }
        let failed = is_connection && handle.status().failed.total() > 0;
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    });
    runtime.shutdown_background();
    result
}

/// Starts the service. Returns it with whether it serves one connection only; `None` if
/// nobody is there to be served.
async fn start(options: &Arc<Options>) -> Result<Option<(Service, bool)>, Failure> {
    let options = Arc::clone(options);
    let starting = aside("start", move || {
        let (name, handler) = options.handler.load(&options.component)?;
        let given = given::take(handler.limits().backlog)?;
        let is_connection = matches!(given, Given::Connection { .. });
        let mut service = ServiceOptions::new(&name, []);
        service.allow_loops = options.allow_loops;
        service.exit_idle = (!is_connection).then_some(options.idle);
        let service = Service::start_given(&service, handler, given);
        let service = service.map_err(|error| match error {
            StartError::Transport { address, contract } => {
                let (serves, pass) = if contract.takes_datagrams() {
                    ("datagrams", "a UDP or Unix datagram socket")
                } else {
                    ("connections", "a TCP or Unix stream socket")
                };
                Failure::usage(anyhow!(
                    "standard input is {address}, and the contract {contract} serves {serves}; \
                     pass {pass}"
                ))
            }
            error => error.into(),
        })?;
        Ok(service.map(|service| (service, is_connection)))
    });
    starting.await.context("cannot start")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_as_documented() {
        #[derive(clap::Parser)]
        struct Only {
            #[command(flatten)]
            options: Options,
        }
        let only = <Only as clap::Parser>::parse_from(["only", "builtin:echo-evented"]);
        assert_eq!(only.options.idle, Duration::from_secs(60));
        assert!(only.options.log_file.is_none() && !only.options.allow_loops);
    }

    #[test]
    fn only_a_socket_that_is_both_is_kept_quiet() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(are_one_socket(&one, one.try_clone().unwrap()));
        assert!(!are_one_socket(&one, &other));
        // A terminal is both, too.
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(!are_one_socket(&null, &null));
    }
}
