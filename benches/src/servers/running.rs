//! A server that runs: a process on its core, from its ready line until it is killed.

use crate::client::events;
use crate::client::socket::Place;
use crate::measure::process;
use crate::system::{self, Cores};
use anyhow::{Context as _, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take until it is ready: it may compile, on one core.
const START: Duration = Duration::from_secs(60);

/// A server that has printed its ready line. On drop it and its children are killed.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
    /// Where it listens.
    pub(crate) place: Place,
    /// How long it took from its start to its ready line.
    pub(crate) ready_after: Duration,
}

impl Running {
    /// Starts a server on its cores, and waits for its ready line. Its log goes to a file,
    /// because a log at its default level is part of what is measured.
    pub(crate) fn start(
        command: &mut Command,
        cores: &Cores,
        count: usize,
        log: &Path,
    ) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(File::create(log).context("the log's file")?);
        system::pin(&cores.of_server(count))?;
        let begun = Instant::now();
        let child = command.spawn();
        if let Some(core) = cores.of_client(count) {
            system::pin(&[core])?;
            events::stay_awake(cores.are_apart(count));
        }
        let mut child = child.with_context(|| format!("cannot start {program}"))?;
        let mut output = child.stdout.take().context("no standard output")?;
        let line = ready_line(&mut output, begun + START);
        let ready_after = begun.elapsed();
        // A server may print more, and would wait as soon as the pipe is full. This ends with
        // the server.
        thread::spawn(move || io::copy(&mut output, &mut io::sink()));
        let mut running = Self {
            child,
            log: log.to_owned(),
            place: Place::Unix(PathBuf::new()),
            ready_after,
        };
        running.place = line
            .and_then(|line| parse_ready_line(&line))
            .map_err(|error| running.explain(error))?;
        Ok(running)
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Adds to an error what the server's log says last.
    pub(crate) fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        match log.lines().rfind(|line| !line.trim().is_empty()) {
            Some(line) => error.context(format!("the server's log ends with `{}`", line.trim())),
            None => error,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let children = process::descendants(self.child.id());
        let _ = self.child.kill();
        for child in children {
            if let Ok(child) = i32::try_from(child) {
                let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
            }
        }
        let _ = self.child.wait();
    }
}

/// Reads the first line, or fails at the deadline.
fn ready_line(output: &mut ChildStdout, deadline: Instant) -> Result<String> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).context("poll")?;
        let mut fds = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout).context("poll")? == 0 {
            bail!("it was not ready after {START:?}");
        }
        let mut byte = [0];
        if output.read(&mut byte)? == 0 {
            bail!("it ended before it was ready");
        }
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

/// The place of a line such as `listening tcp://127.0.0.1:7000 service=echo`.
fn parse_ready_line(line: &str) -> Result<Place> {
    let url = line
        .strip_prefix("listening ")
        .and_then(|rest| rest.split_whitespace().next());
    let place = url.and_then(|url| match url.split_once("://")? {
        ("unix", path) => Some(Place::Unix(path.into())),
        ("tcp" | "udp", address) => Some(Place::Ip(address.parse().ok()?)),
        _ => None,
    });
    place.with_context(|| format!("its first line is no ready line: {line}"))
}

#[cfg(test)]
mod tests {
    use super::{Running, parse_ready_line};
    use crate::client::socket::Place;
    use crate::system::Cores;
    use std::process::Command;

    #[test]
    fn a_server_may_print_more_than_a_pipe_holds() {
        let script = "echo listening tcp://127.0.0.1:9; head -c 1000000 /dev/zero";
        let log = std::env::temp_dir().join(format!("sockserve-benches-{}", std::process::id()));
        let cores = Cores::available().unwrap();
        let mut command = Command::new("sh");
        let running = Running::start(command.args(["-c", script]), &cores, 1, &log);
        let mut running = running.unwrap();
        assert!(running.child.wait().unwrap().success());
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_ready_line_has_a_place() {
        let ip = |text: &str| Some(Place::Ip(text.parse().unwrap()));
        let check = |line: &str, expected| assert_eq!(parse_ready_line(line).ok(), expected);
        check(
            "listening tcp://127.0.0.1:7000 service=echo contract=evented\n",
            ip("127.0.0.1:7000"),
        );
        check("listening udp://127.0.0.1:9\n", ip("127.0.0.1:9"));
        check("listening unix:///a/b\n", Some(Place::Unix("/a/b".into())));
        check("listening\n", None);
        check("listening tcp://here\n", None);
        check("Traceback (most recent call last):\n", None);
    }
}
