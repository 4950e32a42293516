//! `sockserve serve` as a process.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;

use super::command::run;
use super::control::refusal;
use super::guests::Guest;
use super::log::Event;
use super::process::Process;
use super::{Client, PATIENCE};

/// The compiled components of this run and of earlier ones.
pub(crate) const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");

/// How to start a server.
pub(crate) struct Serve {
    command: Command,
    listen: Vec<String>,
    arguments: Vec<String>,
    /// How long it may take until it listens.
    patience: Duration,
}

impl Serve {
    /// A component, by path or builtin name. It logs everything, as JSON.
    pub(crate) fn component(component: impl AsRef<OsStr>) -> Serve {
        Serve::by(Command::new(env!("CARGO_BIN_EXE_sockserve")), component)
    }

    /// A guest under a dispatch.
    pub(crate) fn guest(guest: Guest, dispatch: &str) -> Serve {
        Serve::component(guest.path()).args(["--dispatch", dispatch])
    }

    /// The same, in a shell that does something before.
    pub(crate) fn guest_after(before: &str, guest: Guest, dispatch: &str) -> Serve {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("{before} && exec \"$0\" \"$@\"")])
            .arg(env!("CARGO_BIN_EXE_sockserve"));
        Serve::by(shell, guest.path()).args(["--dispatch", dispatch])
    }

    fn by(mut command: Command, component: impl AsRef<OsStr>) -> Serve {
        command
            .args(["--log-level", "debug", "--log-format", "json", "serve"])
            .arg(component);
        Serve {
            command,
            listen: Vec::new(),
            arguments: Vec::new(),
            patience: PATIENCE,
        }
    }

    pub(crate) fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Serve {
        self.command.args(args);
        self
    }

    /// Arguments of the component.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Serve {
        self.arguments = arguments.iter().map(ToString::to_string).collect();
        self
    }

    /// Starts it in this directory.
    pub(crate) fn in_directory(mut self, directory: &Path) -> Serve {
        self.command.current_dir(directory);
        self
    }

    /// Takes the compiled component from a cache that the tests share. Compiling is
    /// most of the time of a short test. Tests that compile themselves are in
    /// `clients`, `swap` and `transport`.
    pub(crate) fn compiled_once(self) -> Serve {
        self.args(["--cache", CACHE])
    }

    /// An environment variable of the guest: `NAME=VALUE`.
    pub(crate) fn env(self, variable: &str) -> Serve {
        self.args(["--env", variable])
    }

    /// An environment variable of the process itself.
    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Serve {
        self.command.env(name, value);
        self
    }

    /// Another place to listen; without any it is any port of 127.0.0.1.
    pub(crate) fn listen(mut self, url: &str) -> Serve {
        self.listen.push(url.to_owned());
        self
    }

    /// Lets it take so long until it listens: a large component is compiled for long.
    pub(crate) fn within(mut self, patience: Duration) -> Serve {
        self.patience = patience;
        self
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub(crate) fn start(mut self) -> Server {
        if self.listen.is_empty() {
            self.listen.push("tcp://127.0.0.1:0".to_owned());
        }
        for url in &self.listen {
            self.command.args(["--listen", url]);
        }
        if !self.arguments.is_empty() {
            self.command.arg("--").args(&self.arguments);
        }
        let process = Process::start(&mut self.command);
        let count: usize = self.listen.iter().map(|url| listeners(url)).sum();
        Server::ready(process, count, self.patience)
    }
}

/// How many addresses a URL stands for.
fn listeners(url: &str) -> usize {
    if url.contains("://*:") {
        return 2;
    }
    if !url.starts_with("tcp://localhost:") {
        return 1;
    }
    let found: BTreeSet<_> = ("localhost", 0).to_socket_addrs().unwrap().collect();
    found.len()
}

/// The address of a server that was not started by [`Serve`].
#[track_caller]
pub(crate) fn ready_address(process: &Process) -> SocketAddr {
    let ready = process
        .stdout
        .wait_until("the ready line", |lines| lines.first().cloned());
    address(&ready).unwrap()
}

/// The address in a ready line. `None` for a Unix socket.
#[track_caller]
fn address(ready: &str) -> Option<SocketAddr> {
    let url = ready.strip_prefix("listening ");
    let Some(url) = url.and_then(|rest| rest.split(' ').next()) else {
        panic!("not a ready line: {ready}");
    };
    let address = url
        .strip_prefix("tcp://")
        .or_else(|| url.strip_prefix("udp://"));
    address.map(|address| address.parse().unwrap())
}

/// Starts a guest that is refused with status 1, and gives the one line that says why.
#[track_caller]
pub(crate) fn refused_to_start(guest: Guest, dispatch: &str, options: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
    command.arg("serve").arg(guest.path());
    command.args(["--dispatch", dispatch, "--cache", CACHE]);
    command
        .args(["--listen", "tcp://127.0.0.1:0"])
        .args(options);
    refusal(&run(&mut command))
}

/// A server that listens.
pub(crate) struct Server {
    pub(crate) process: Process,
    /// Its ready lines.
    pub(crate) ready: Vec<String>,
    /// The addresses in them that are on the network.
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Server {
    /// Starts the services of a configuration file, which listen on so many addresses.
    #[track_caller]
    pub(crate) fn of_config(path: &Path, listeners: usize) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
        command
            .args(["--log-level", "debug", "--log-format", "json"])
            .args(["serve", "--config"])
            .arg(path);
        Server::ready(Process::start(&mut command), listeners, PATIENCE)
    }

    /// Waits until a process has printed so many ready lines.
    #[track_caller]
    fn ready(process: Process, listeners: usize, patience: Duration) -> Server {
        let wanted = |lines: &[String]| (lines.len() == listeners).then(|| lines.to_vec());
        let ready = process
            .stdout
            .wait_until_within(patience, "the ready lines", wanted);
        let addresses = ready.iter().filter_map(|line| address(line)).collect();
        Server {
            process,
            ready,
            addresses,
        }
    }

    /// Its first address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn port(&self) -> u16 {
        self.address().port()
    }

    /// Connects to its first address.
    #[track_caller]
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Waits for a line of the log.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, what: &str, mut wanted: impl FnMut(&Event) -> bool) -> Event {
        let mut seen = 0;
        self.process.stderr.wait_until(what, |lines| {
            let new = &lines[seen..];
            seen = lines.len();
            new.iter()
                .filter_map(|line| Event::parse(line))
                .find(&mut wanted)
        })
    }

    /// Waits until this version has become the current one.
    #[track_caller]
    pub(crate) fn wait_for_version(&self, number: u64) -> Event {
        self.wait_for_log(&format!("version {number}"), |event| {
            event.message() == "version activated" && event.number("version") == Some(number)
        })
    }

    /// Waits until so many connections have been closed, and their permits are
    /// back.
    #[track_caller]
    pub(crate) fn wait_for_closed(&self, count: usize) {
        let (mut seen, mut closed) = (0, 0);
        self.process
            .stderr
            .wait_until("closed connections", |lines| {
                let new = lines[seen..].iter();
                let is_closed = |line: &&String| line.contains(r#""message":"connection closed""#);
                closed += new.filter(is_closed).count();
                seen = lines.len();
                (closed >= count).then_some(())
            });
    }

    /// Waits until it has logged that the client's connection is open.
    #[track_caller]
    pub(crate) fn wait_for_open(&self, client: &Client) -> Event {
        let peer = client.local().to_string();
        self.wait_for_log("the client's connection", |event| {
            event.message() == "connection opened" && event.str("peer") == peer
        })
    }

    /// Asks it to end, as an operator would.
    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Asks it to end, waits until it has, and checks that it was content.
    #[track_caller]
    pub(crate) fn stop(self) -> Finished {
        self.terminate();
        let finished = self.finish();
        assert_eq!(finished.status.code(), Some(0));
        finished
    }

    /// Waits until it has ended.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Finished {
        let status = self.process.wait();
        assert_eq!(self.process.stdout.lines(), self.ready, "standard output");
        let parse = |line: &String| {
            Event::parse(line).unwrap_or_else(|| panic!("not a line of the log: {line}"))
        };
        let log = self.process.stderr.lines().iter().map(parse).collect();
        Finished { status, log }
    }
}

/// A server that has ended.
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    /// Its whole log.
    pub(crate) log: Vec<Event>,
}

impl Finished {
    /// All warnings and errors, but that a swap or a rollback was refused: who has asked for
    /// it, here the test, was told.
    pub(crate) fn alarms(&self) -> Vec<&Event> {
        let is_alarm = |event: &&Event| event.is_alarm() && !event.is_refusal();
        self.log.iter().filter(is_alarm).collect()
    }

    /// Checks that nothing went wrong.
    #[track_caller]
    pub(crate) fn check_no_alarm(&self) {
        let alarms = self.alarms();
        assert!(alarms.is_empty(), "{alarms:#?}");
    }

    /// Where in the log the line about a connection with this message is.
    #[track_caller]
    pub(crate) fn place(&self, connection: u64, message: &str) -> usize {
        let said =
            |event: &Event| event.connection() == Some(connection) && event.message() == message;
        self.log.iter().position(said).unwrap()
    }

    /// What guests have printed, line by line.
    pub(crate) fn guest_lines(&self) -> Vec<&str> {
        let guest = self.log.iter().filter(|event| event.is_guest());
        guest.map(Event::message).collect()
    }
}
