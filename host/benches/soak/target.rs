//! The server: its swaps, its state when no connection is open, and its end.

use crate::server::{Result, Server};
use rustix::process::{Pid, Signal, kill_process};
use sockserve::control::client::{self, Question};
use sockserve::control::{StatusReply, SwapRequest};
use sockserve::{Status, Swapped};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long an answer on the control socket may take, and how long the last
/// connection may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// The time between two looks.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) struct Target {
    pub(crate) process: Server,
    directory: PathBuf,
    /// The components that are swapped in, one after the other.
    components: Vec<String>,
    swaps: usize,
}

impl Target {
    /// Starts the server with echo. `manner` is what the faults guests do with a
    /// hand-over.
    pub(crate) fn start(contract: &str, dispatch: &str, manner: Option<&str>) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("sockserve-soak-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let [echo, upper] = ["echo", "upper"].map(|family| format!("builtin:{family}-{contract}"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockserve"));
        command
            .args(["--log-level", "error", "serve", &echo, "--name", "soak"])
            .args(["--dispatch", dispatch, "--listen", "tcp://127.0.0.1:0"])
            .args(["--max-connections", "256", "--linger", "500ms"])
            .args(["--max-memory", "16MiB", "--workers", "2"])
            .arg("--control")
            .arg(directory.join("control"))
            .arg("--cache")
            .arg(directory.join("cache"));
        let components = match manner {
            None => vec![upper, echo],
            Some(manner) => {
                command.args(["--deadline", "100ms", "--env"]);
                command.arg(format!("HAND_OVER={manner}"));
                let guests = Path::new(env!("SOCKSERVE_GUESTS_DIR"));
                let faults = guests.join(format!("faults_{contract}.wasm"));
                let faults = faults.to_str().ok_or("the path is not UTF-8")?.to_owned();
                vec![faults.clone(), upper, faults, echo]
            }
        };
        let log = File::create(directory.join("log"))?;
        Ok(Self {
            process: Server::start(&mut command, log.into())?,
            directory,
            components,
            swaps: 0,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.process.address
    }

    /// Swaps the next component in.
    pub(crate) async fn swap(&mut self) -> Result<()> {
        let component = self.components.get(self.swaps % self.components.len());
        let mut request = SwapRequest::new(component.ok_or("no component")?);
        // A connection that cannot be handed over must not keep its version for ever.
        request.drain_timeout = Some("3s".to_owned());
        self.swaps += 1;
        let begun = Instant::now();
        loop {
            let asked = self.ask::<Swapped>(Question::swap("soak", &request)?);
            match asked.await {
                Ok(_) => return Ok(()),
                // The service may be rolling back by itself.
                Err(error)
                    if error.to_string().contains("under way") && begun.elapsed() < PATIENCE =>
                {
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until no connection is open and only the current version is left.
    pub(crate) async fn at_rest(&mut self) -> Result<Status> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.child.try_wait()? {
                return Err(format!("the server has ended: {status}{}", self.log()).into());
            }
            let reply: StatusReply = self.ask(Question::status()).await?;
            let status = reply.services.into_iter().next().ok_or("no service")?;
            if status.open == 0 && status.versions.len() == 1 {
                // Instances that have just ended are still being dropped.
                tokio::time::sleep(LOOK * 4).await;
                return Ok(status);
            }
            if begun.elapsed() > PATIENCE {
                let (open, versions) = (status.open, &status.versions);
                return Err(
                    format!("{open} connections open and nobody is there: {versions:?}").into(),
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends the server as an operator would. Returns what was wrong with that, and
    /// the errors in its log.
    pub(crate) fn ends(&mut self, patience: Duration) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        let child = &mut self.process.child;
        kill_process(Pid::from_child(child), Signal::TERM)?;
        let begun = Instant::now();
        let ended = loop {
            match child.try_wait()? {
                Some(status) => break Some(status),
                None if begun.elapsed() > patience => break None,
                None => std::thread::sleep(LOOK),
            }
        };
        match ended {
            Some(status) if status.success() => {}
            Some(status) => faults.push(format!("it ended with {status}")),
            None => faults.push("it did not end when it was told to".to_owned()),
        }
        let log = self.log();
        if !log.is_empty() {
            faults.push(format!("its log has errors{log}"));
        }
        Ok(faults)
    }

    /// Returns the last lines of the log, which has only errors.
    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(5));
        last.map(|line| format!("\n    {line}")).collect()
    }

    async fn ask<R: serde::de::DeserializeOwned>(&self, question: Question) -> Result<R> {
        let control = self.directory.join("control");
        let asked = client::ask(&control, question);
        Ok(tokio::time::timeout(PATIENCE, asked)
            .await
            .map_err(|_| format!("no answer on the control socket within {PATIENCE:?}"))??)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.process.child.kill();
        let _ = self.process.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
