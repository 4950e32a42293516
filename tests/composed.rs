//! `sockserve compose`: every embedded handler as a command, under `sockserve run` and
//! under the stock wasmtime, if there is one. Its peers see what they see under
//! `sockserve serve`.
//!
//! | file | |
//! | --- | --- |
//! | `transcripts` | the same bytes as under `serve`, for each family and mode |
//! | `ends` | how connections end: unread input, resets, failures, limits |
//! | `arguments` | what `compose` and a command refuse, and what they print |
//! | `everything` | the script that serves all of them with the stock wasmtime |

mod arguments;
mod ends;
mod everything;
mod transcripts;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::command::sockserve;
use crate::harness::process::Process;
use crate::harness::scratch::Scratch;
use crate::harness::{Client, Guest, wasmtime};

/// What runs a command.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    /// `sockserve run`.
    Own,
    /// The stock command line.
    Stock(PathBuf),
}

/// `sockserve run`, and each wasmtime that there is.
fn for_each_host(test: &str, mut check: impl FnMut(&Host)) {
    check(&Host::Own);
    wasmtime::for_each(test, |path| check(&Host::Stock(path.to_owned())));
}

/// A handler as a command.
pub(crate) struct Composed {
    path: PathBuf,
    takes_datagrams: bool,
    _scratch: Scratch,
}

impl Composed {
    #[track_caller]
    pub(crate) fn of(guest: Guest) -> Composed {
        let scratch = Scratch::new();
        let path = scratch.path("service.wasm");
        let handler = guest.path();
        let outcome = sockserve([
            "compose".as_ref(),
            handler.as_os_str(),
            "-o".as_ref(),
            path.as_os_str(),
        ]);
        let size = path.metadata().unwrap().len();
        let line = format!("{}  {size} bytes", path.display());
        assert_eq!(outcome.printed(), [line]);
        Composed {
            path,
            takes_datagrams: guest.takes_datagrams(),
            _scratch: scratch,
        }
    }

    /// The command line that runs it with these variables and directories.
    fn command(&self, host: &Host, options: &[&str]) -> Command {
        let mut command;
        match host {
            Host::Own => {
                command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
                let grant = if self.takes_datagrams {
                    "--allow-udp"
                } else {
                    "--allow-listen"
                };
                command.args(["run", grant, "127.0.0.1:*", grant, "[::1]:*"]);
            }
            Host::Stock(path) => {
                command = Command::new(path);
                command.args(["run", "-S", "inherit-network"]);
            }
        }
        command.args(options).arg(&self.path);
        command
    }

    #[track_caller]
    fn start(&self, host: &Host, options: &[&str], arguments: &[&str]) -> Running {
        let mut command = self.command(host, options);
        let process = Process::start(command.args(arguments));
        let listeners = arguments.iter().filter(|it| **it == "--listen").count();
        let ready = process.stdout.wait_until("the ready lines", |lines| {
            (lines.len() >= listeners).then(|| lines[..listeners].to_vec())
        });
        Running { process, ready }
    }

    /// Starts it on a port of 127.0.0.1.
    #[track_caller]
    pub(crate) fn serve(&self, host: &Host, options: &[&str]) -> Running {
        self.start(host, options, &["--listen", "127.0.0.1:0"])
    }
}

/// A command that listens.
pub(crate) struct Running {
    process: Process,
    ready: Vec<String>,
}

impl Running {
    pub(crate) fn address(&self) -> SocketAddr {
        address(&self.ready[0])
    }

    #[track_caller]
    fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Waits for a line of standard error that has this text.
    #[track_caller]
    fn wait_for_error(&self, text: &str) -> String {
        self.process.stderr.wait_until(text, |lines| {
            lines.iter().find(|line| line.contains(text)).cloned()
        })
    }

    /// Checks that nothing went wrong so far.
    #[track_caller]
    pub(crate) fn check_no_error(&self) {
        let lines = self.process.stderr.lines();
        assert!(lines.is_empty(), "{lines:#?}");
    }
}

/// The address in a ready line.
fn address(ready: &str) -> SocketAddr {
    let url = ready.strip_prefix("listening ").unwrap();
    let url = url.split(' ').next().unwrap();
    url.split_once("://").unwrap().1.parse().unwrap()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
