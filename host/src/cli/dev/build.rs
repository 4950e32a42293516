//! The process of a build. It has a process group of its own, and the group ends with the
//! build: no process of it is left, however the build ends.

use crate::aside::aside;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long a build that is asked to end may take before it is killed. A compiler needs
/// a moment to remove its unfinished files.
const GRACE: Duration = Duration::from_secs(1);

/// Runs one command, one build at a time.
pub(in crate::cli) struct Builds {
    command: String,
    /// The process group of the build that runs.
    group: watch::Sender<Option<Pid>>,
    /// No build begins any more.
    stopped: AtomicBool,
}

impl Builds {
    pub(super) fn new(command: &str) -> Self {
        Self {
            command: command.to_owned(),
            group: watch::Sender::new(None),
            stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn command(&self) -> &str {
        &self.command
    }

    /// Builds, and returns how the command has ended. Never returns once the builds are
    /// stopped: what such a build came to is not worth a word.
    pub(super) async fn build(self: &Arc<Self>) -> io::Result<ExitStatus> {
        let builds = Arc::clone(self);
        let result = aside("build", move || builds.run()).await;
        if self.stopped.load(Ordering::SeqCst) {
            let never: Infallible = std::future::pending().await;
            match never {}
        }
        result?
    }

    /// Runs the command to its end, on a thread that may wait.
    fn run(&self) -> io::Result<ExitStatus> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(&self.command).process_group(0);
        // Standard output has the ready lines only.
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        command.stdin(Stdio::null()).stdout(stderr);
        let mut spawned = Err(io::ErrorKind::Interrupted.into());
        // Under the lock, so that `stop` either comes before or finds the group.
        self.group.send_modify(|group| {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            spawned = command.spawn();
            if let Ok(child) = &spawned {
                *group = Some(Pid::from_child(child));
            }
        });
        let mut child = spawned?;
        let leader = Pid::from_child(&child);
        // The child is not reaped before the group is signalled, so that its number is not
        // another group's by then.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(leader), options).is_err_and(|error| error == Errno::INTR) {}
        self.group.send_modify(|group| {
            // What the command has left running. There may be nothing.
            let _ = kill_process_group(leader, Signal::KILL);
            *group = None;
        });
        child.wait()
    }

    /// Asks the build that runs to end. None begins after this.
    pub(in crate::cli) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.signal(Signal::TERM);
    }

    /// The same, and waits until its processes have ended. Those that have not after
    /// [`GRACE`] are killed.
    pub(in crate::cli) async fn end(&self) {
        self.stop();
        let mut group = self.group.subscribe();
        if timeout(GRACE, group.wait_for(Option::is_none))
            .await
            .is_err()
        {
            self.signal(Signal::KILL);
            let _ = timeout(GRACE, group.wait_for(Option::is_none)).await;
        }
    }

    fn signal(&self, signal: Signal) {
        // The lock is held, so that the group's number stays its own.
        if let Some(group) = *self.group.borrow() {
            // A stopped process does not see SIGTERM before it goes on.
            let _ = kill_process_group(group, signal);
            let _ = kill_process_group(group, Signal::CONT);
        }
    }
}

impl Drop for Builds {
    /// For a process that ends by an error; else `end` was called.
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
