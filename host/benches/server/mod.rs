//! A server on the first core. The program that includes this module runs on the
//! second core.

use std::error::Error;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A server that has printed its ready line. On drop it is killed.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server whose log goes to `log`.
    pub(crate) fn start(command: &mut Command, log: Stdio) -> Result<Self> {
        pin(0)?;
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn()?;
        pin(1)?;
        let mut ready = String::new();
        let stdout = child.stdout.take().ok_or("no standard output")?;
        BufReader::new(stdout).read_line(&mut ready)?;
        let address = ready
            .split_whitespace()
            .nth(1)
            .and_then(|url| url.split_once("://"))
            .ok_or_else(|| format!("not ready: {ready}"))?
            .1
            .parse()?;
        Ok(Self { child, address })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Keeps this thread, and the processes that it starts, on one core.
fn pin(core: usize) -> Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    // On a machine with one core nothing is pinned.
    let _ = rustix::thread::sched_setaffinity(None, &cores);
    Ok(())
}
