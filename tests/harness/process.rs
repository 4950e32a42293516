//! A child process whose output is collected, and which does not outlive the
//! test.

use std::io;
use std::process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::log::{Event, Log};

/// How much of its output is shown when a test fails.
const SHOWN: usize = 100;

/// A running process. Dropping it kills it, and prints what it said if the test
/// has failed.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdout: Log,
    pub(crate) stderr: Log,
}

impl Process {
    /// Starts `command` with nothing on standard input.
    #[track_caller]
    pub(crate) fn start(command: &mut Command) -> Process {
        Process::spawn(command.stdin(Stdio::null()))
    }

    /// Starts `command`, and gives its standard input to type on.
    #[track_caller]
    pub(crate) fn start_typing(command: &mut Command) -> (Process, ChildStdin) {
        let mut process = Process::spawn(command.stdin(Stdio::piped()));
        let typing = process.child.stdin.take().unwrap();
        (process, typing)
    }

    /// Starts `command`, and returns its standard error, which nobody reads yet.
    #[track_caller]
    pub(crate) fn start_unheard(command: &mut Command) -> (Process, ChildStderr) {
        let mut child = Process::child(command.stdin(Stdio::null()).stdout(Stdio::piped()));
        let stderr = child.stderr.take().unwrap();
        (Process::collect(child), stderr)
    }

    /// Starts `command` with a standard output whose reader has gone.
    #[track_caller]
    pub(crate) fn start_unread(command: &mut Command) -> Process {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        Process::collect(Process::child(command.stdin(Stdio::null()).stdout(writer)))
    }

    #[track_caller]
    fn spawn(command: &mut Command) -> Process {
        Process::collect(Process::child(command.stdout(Stdio::piped())))
    }

    #[track_caller]
    fn child(command: &mut Command) -> Child {
        match command.stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => panic!("{command:?}: {error}"),
        }
    }

    /// Collects the outputs that are pipes. Another one counts as ended.
    fn collect(mut child: Child) -> Process {
        let stdout = child.stdout.take().map(Log::collect);
        let stderr = child.stderr.take().map(Log::collect);
        Process {
            child,
            stdout: stdout.unwrap_or_else(|| Log::collect(io::empty())),
            stderr: stderr.unwrap_or_else(|| Log::collect(io::empty())),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        if signal == Signal::STOP {
            // It stops some time after the call, each of its threads by itself.
            let deadline = Instant::now() + PATIENCE;
            while !self.is_stopped() {
                assert!(Instant::now() < deadline, "waited too long for its stop");
                std::thread::yield_now();
            }
        }
    }

    /// Whether all of its threads are stopped.
    fn is_stopped(&self) -> bool {
        let threads = format!("/proc/{}/task", self.child.id());
        std::fs::read_dir(threads).unwrap().all(|thread| {
            // A thread may have ended meanwhile.
            let state = std::fs::read_to_string(thread.unwrap().path().join("stat"));
            let state = state.unwrap_or_default();
            // Its name, which may have anything in it, ends with a parenthesis.
            let after_name = state.rsplit(") ").next().unwrap_or_default();
            after_name.is_empty() || after_name.starts_with('T')
        })
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.wait_within(PATIENCE)
    }

    /// The same, for at most so long.
    #[track_caller]
    pub(crate) fn wait_within(&mut self, patience: Duration) -> ExitStatus {
        // Its outputs end with it, and unlike a child they are waited for with a
        // deadline.
        self.stdout.wait_for_end(patience);
        self.stderr.wait_for_end(patience);
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for (name, log) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
                let lines = log.lines_to_end();
                // A test with a thousand connections has a long log.
                let skipped = lines.len().saturating_sub(SHOWN);
                eprintln!("--- {name} of {}", self.child.id());
                for (number, line) in lines.iter().enumerate() {
                    let is_alarm = Event::parse(line).is_none_or(|event| event.is_alarm());
                    if number >= skipped || is_alarm {
                        eprintln!("{line}");
                    }
                }
                eprintln!("--- ({skipped} lines before the last {SHOWN} only if alarms)");
            }
        }
    }
}
