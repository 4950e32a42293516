//! CPython's own modules as servers and clients, to compare with.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::Process;
use super::{Client, tools};

/// A Python that has this module, which need not be there.
pub(crate) fn with(module: &str) -> Option<PathBuf> {
    let tools = std::env::var_os("SOCKSERVE_TOOLS").map(PathBuf::from);
    let ours = tools.map(|tools| tools.join("bin/python3"));
    let all = [Some("python3".into()), ours].into_iter().flatten();
    let mut all = all.filter(|python: &PathBuf| {
        let import = format!("import {module}");
        match Command::new(python).args(["-c", &import]).output() {
            Ok(output) => output.status.success(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                false
            }
        }
    });
    let found = all.next();
    if found.is_none() {
        println!("skipped: there is no Python with {module}; pip install it");
    }
    found
}

/// A server from `tests/python/`.
pub(crate) struct Python {
    process: Process,
    address: SocketAddr,
}

impl Python {
    /// Starts a script that prints its port, unless there is no Python.
    #[track_caller]
    pub(crate) fn start(script: &str) -> Option<Python> {
        Python::start_with(script, &[])
    }

    /// The same, with arguments.
    #[track_caller]
    pub(crate) fn start_with(script: &str, args: &[&str]) -> Option<Python> {
        let process = Python::run(script, args)?;
        let port = process.stdout.wait_until("the script's port", |lines| {
            lines.first().map(|line| line.parse().unwrap())
        });
        Some(Python {
            process,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        })
    }

    /// Starts a script with arguments, and waits until it has printed a line, unless
    /// there is no Python.
    #[track_caller]
    pub(crate) fn run(script: &str, args: &[&str]) -> Option<Process> {
        let process = Process::start(Python::command(script)?.args(args));
        process
            .stdout
            .wait_until("the script's first line", |lines| {
                (!lines.is_empty()).then_some(())
            });
        Some(process)
    }

    /// The command that runs a script, unless there is no Python.
    pub(crate) fn command(script: &str) -> Option<Command> {
        if !tools::have("python3", &["--version"]) {
            return None;
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/python")
            .join(script);
        let mut command = Command::new("python3");
        command.arg("-u").arg(path).env("TZ", "UTC");
        Some(command)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Waits until it has printed so many lines after its port, and gives them.
    #[track_caller]
    pub(crate) fn printed(&self, count: usize) -> Vec<String> {
        self.process
            .stdout
            .wait_until(format!("{count} lines"), |lines| {
                (lines.len() > count).then(|| lines[1..].to_vec())
            })
    }
}
