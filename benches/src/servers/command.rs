//! The command line of each server.

use super::tools::Tools;
use super::{Contract, Dispatch, Listening, Python, Server};
use crate::native::Native;
use crate::work::Work;
use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of our services.
pub(crate) const SERVICE: &str = "bench";

/// How many connections `sockserve serve` has by default. More must be asked for.
const DEFAULT_CONNECTIONS: usize = 1024;

/// Permits for connections that are still closing.
const SPARE: usize = 100;

/// Where a server finds and puts its files. A directory of its own per measurement.
#[derive(Debug)]
pub(crate) struct Files<'a> {
    /// Sockets and logs.
    pub(crate) directory: &'a Path,
    /// Compiled code of `sockserve`, which lasts as long as the benchmark.
    pub(crate) cache: &'a Path,
}

impl Files<'_> {
    /// The Unix socket that a server listens at.
    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// The control socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.directory.join("control")
    }
}

/// The command line of a server for some work. An error is why it is skipped.
pub(crate) fn command(
    server: Server,
    work: Work,
    tools: &Tools,
    files: &Files<'_>,
) -> Result<Command> {
    let is_unix = work == Work::Unix;
    match server {
        Server::Tokio | Server::TokioMulti | Server::Epoll | Server::Recvmmsg => {
            native(server, work, files)
        }
        Server::Python(python) => {
            let mut command = Command::new(tools.python()?);
            let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/python");
            let how = match python {
                Python::Udp => {
                    command.arg(scripts.join("datagrams.py"));
                    return Ok(command);
                }
                Python::Threading => "threading",
                Python::Forking => "forking",
                Python::Asyncio => "asyncio",
            };
            command.arg(scripts.join("streams.py")).arg(how);
            command.arg(if is_unix {
                format!("unix:{}", files.socket().display())
            } else {
                "tcp".to_owned()
            });
            Ok(command)
        }
        Server::Wasmtime(peer) => listening(peer, work, tools),
        Server::Composed(contract) => composed(contract, work, tools),
        Server::Ours(contract, dispatch) => {
            let mut command = Command::new(tools.sockserve());
            let builtin = format!("builtin:{}-{}", family(work), contract.name());
            command.args(["serve", &builtin, "--name", SERVICE]);
            command.args(["--dispatch", dispatch.name()]);
            if dispatch == Dispatch::Threaded {
                // With one core there is no use for more threads.
                command.args(["--workers", &work.cores().to_string()]);
            }
            if dispatch == Dispatch::Poll && contract.serves_all() && work.cores() > 1 {
                command.args(["--loops", &work.cores().to_string()]);
            }
            command.arg("--listen").arg(if is_unix {
                format!("unix://{}", files.socket().display())
            } else if contract.is_of_datagrams() {
                "udp://127.0.0.1:0".to_owned()
            } else {
                "tcp://127.0.0.1:0".to_owned()
            });
            if let Some(connections) = more_connections(work) {
                command.args(["--max-connections", &connections]);
            }
            let is_cached = !matches!(
                work,
                Work::Start { cached: false } | Work::SwapAnswer { cached: false }
            );
            if is_cached {
                command.arg("--cache").arg(files.cache);
            }
            if work.is_swap() {
                command.arg("--control").arg(files.control());
            }
            Ok(command)
        }
    }
}

/// The program itself, as a native server.
fn native(server: Server, work: Work, files: &Files<'_>) -> Result<Command> {
    let native = match (server, work) {
        (Server::TokioMulti, _) => Native::TokioMulti,
        (Server::Epoll, _) => Native::Epoll,
        (Server::Recvmmsg, _) => Native::Recvmmsg,
        (_, Work::Datagrams { .. }) => Native::TokioDatagrams,
        (_, Work::Chat { .. }) => Native::TokioChat,
        // With two cores native is Tokio on two.
        (_, Work::Cores { .. }) => Native::TokioMulti,
        _ => Native::Tokio,
    };
    let name = native.to_possible_value().context("no name")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--native-server", name.get_name()]);
    if work == Work::Unix {
        command.arg("--native-path").arg(files.socket());
    }
    Ok(command)
}

/// A program that listens by itself, under the stock wasmtime.
fn listening(peer: Listening, work: Work, tools: &Tools) -> Result<Command> {
    let mut command = Command::new(tools.wasmtime()?);
    run_component(&mut command, &tools.peer(peer)?, work, tools)?;
    Ok(command)
}

/// A composed command under the stock wasmtime.
fn composed(contract: Contract, work: Work, tools: &Tools) -> Result<Command> {
    let mut command = Command::new(tools.wasmtime()?);
    let component = tools.composed(family(work), contract)?;
    run_component(&mut command, &component, work, tools)?;
    command.arg("--listen").arg(if contract.is_of_datagrams() {
        "udp://127.0.0.1:0"
    } else {
        "tcp://127.0.0.1:0"
    });
    if let Some(connections) = more_connections(work) {
        command.args(["--max-connections", &connections]);
    }
    Ok(command)
}

/// `wasmtime run`, with compiled code unless the compilation is what is measured.
fn run_component(command: &mut Command, component: &Path, work: Work, tools: &Tools) -> Result<()> {
    command.args(["run", "-S", "inherit-network"]);
    if work == (Work::Start { cached: false }) {
        // It has a cache of its own.
        command.args(["-C", "cache=n"]).arg(component);
    } else {
        command.arg("--allow-precompiled");
        command.arg(tools.compiled(component)?);
    }
    Ok(())
}

/// The value of `--max-connections`, where the default is not enough.
fn more_connections(work: Work) -> Option<String> {
    let needed = work.connections() + SPARE;
    (needed > DEFAULT_CONNECTIONS).then(|| needed.to_string())
}

fn family(work: Work) -> &'static str {
    match work {
        Work::Chat { .. } => "chat",
        _ => "echo",
    }
}

#[cfg(test)]
mod tests {
    use super::{Files, command};
    use crate::servers::tools::Tools;
    use crate::servers::{Contract, Dispatch, Server};
    use crate::work::Work;
    use std::path::Path;

    #[test]
    fn ours_has_its_defaults_where_they_are_enough() {
        let check = |work: Work, expected: &str| {
            let tools = Tools::new("sockserve".into(), Path::new("/d"));
            let (directory, cache) = (Path::new("/d"), Path::new("/c"));
            let files = Files { directory, cache };
            let server = Server::Ours(Contract::Evented, Dispatch::Poll);
            let command = command(server, work, &tools, &files).unwrap();
            let arguments: Vec<_> = command.get_args().map(|a| a.to_str().unwrap()).collect();
            let begin = "serve builtin:echo-evented --name bench --dispatch poll --listen ";
            assert_eq!(arguments.join(" "), format!("{begin}{expected}"));
        };
        let many = Work::Idle {
            connections: 10_000,
        };
        check(Work::Connect, "tcp://127.0.0.1:0 --cache /c");
        check(Work::Unix, "unix:///d/socket --cache /c");
        check(many, "tcp://127.0.0.1:0 --max-connections 10100 --cache /c");
        check(Work::Start { cached: false }, "tcp://127.0.0.1:0");
        check(
            Work::SwapDrain,
            "tcp://127.0.0.1:0 --cache /c --control /d/control",
        );
    }
}
