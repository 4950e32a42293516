//! A child process whose output is collected, and which does not outlive the
//! test.

use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

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

    #[track_caller]
    fn spawn(command: &mut Command) -> Process {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{command:?}: {error}"),
        };
        let stdout = Log::collect(child.stdout.take().unwrap());
        let stderr = Log::collect(child.stderr.take().unwrap());
        Process {
            child,
            stdout,
            stderr,
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        // Its outputs end with it, and unlike a child they are waited for with a
        // deadline.
        self.stdout.wait_for_end();
        self.stderr.wait_for_end();
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
