//! Services that serve, until all of them have ended.

use super::start::{One, Started};
use crate::cli::dev::{Begun, Builds};
use crate::cli::signals::{Ends, HangUps};
use crate::cli::watch::{Watch, swap_at_hang_up};
use crate::cli::{Failure, notify, output};
use crate::{Registry, Service};
use anyhow::Context as _;
use futures_util::future::{join_all, try_join_all};
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long requests that wait for the end are answered at most.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long services that are cut off may take to keep what their instances know.
const CUT_OFF: Duration = Duration::from_secs(10);

/// A service, and what it came to.
struct Running {
    service: Service,
    /// Whether what its instance knows is kept.
    keeps_state: bool,
    /// Whether the process has other services, which may go on when this one has failed.
    has_others: bool,
    /// Its result, if it has ended.
    result: Option<io::Result<()>>,
}

impl Running {
    /// Waits until the service has ended, and says so. May be called again.
    async fn ended(&mut self) {
        if self.result.is_some() {
            return;
        }
        let result = self.service.ended().await;
        if let Err(error) = &result {
            // If it was the only one, the process says so at its end.
            if self.has_others {
                tracing::error!(service = self.service.name(), %error, "the service ended");
            }
        } else {
            let status = self.service.handle().status();
            tracing::info!(
                service = status.name,
                accepted = status.accepted,
                handled = status.handled,
                failed = status.failed.total(),
                refused = status.refused.total(),
                "stopped"
            );
        }
        self.result = Some(result);
    }
}

/// Serves until every service has ended or the process is told to end.
pub(super) async fn serve(
    building: Option<(Begun, Arc<Builds>)>,
    started: Started,
    mut ends: Ends,
    mut hang_ups: HangUps,
) -> Result<ExitCode, Failure> {
    let Started { services, control } = started;
    let handles: Vec<_> = services.iter().map(|one| one.service.handle()).collect();
    let registry = Arc::new(Registry::new(handles.clone()));
    let controlling = async {
        match &control {
            Some(control) => control.run(Arc::clone(&registry)).await,
            None => std::future::pending().await,
        }
    };
    let watch = |one: &One| Watch::new(&one.keys.component, one.loaded, one.service.handle());
    let watches: Vec<_> = services.iter().map(watch).collect();
    let watched = watches.iter().zip(&services);
    let watched = watched.filter_map(|(watch, one)| one.keys.watch.then_some(watch));
    let watched: Vec<_> = watched.collect();
    let (begun, builds) = building.unzip();
    print_ready(&services).context("cannot print the ready line")?;
    notify::ready();
    let draining = async {
        ends.next().await;
        for service in &handles {
            tracing::info!(service = service.name(), "draining");
        }
        notify::stopping();
        for service in &handles {
            service.drain();
        }
        if let Some(builds) = &builds {
            builds.stop();
        }
        ends.next().await;
        handles.iter().map(|service| service.status().open).sum()
    };
    let changing = async {
        match (begun, watches.first()) {
            (Some(begun), Some(watch)) => begun.swap_at_edit(watch).await.map(drop),
            _ => {
                let watching = watched.into_iter().map(Watch::swap_at_change);
                try_join_all(watching).await.map(drop)?;
                // None of them is watched.
                std::future::pending().await
            }
        }
    };
    let has_others = services.len() > 1;
    let mut running: Vec<_> = services
        .into_iter()
        .map(|one| Running {
            service: one.service,
            keeps_state: one.keys.service.state_file.is_some(),
            has_others,
            result: None,
        })
        .collect();
    tokio::select! {
        _ = join_all(running.iter_mut().map(Running::ended)) => {
            if let Some(control) = &control {
                // Somebody may wait for this end.
                let _ = tokio::time::timeout(LAST_ANSWERS, control.answered()).await;
            }
        }
        // Open connections are not closed in order any more.
        connections = draining => {
            // What instances know is kept all the same.
            let keeping = running.iter_mut().filter(|it| it.keeps_state);
            let keeping = keeping.map(|running| {
                running.service.abort();
                running.ended()
            });
            let _ = tokio::time::timeout(CUT_OFF, join_all(keeping)).await;
            results(running)?;
            return Ok(status_after_cut_off(connections));
        }
        failed = controlling => {
            let Err(error) = failed.context("cannot watch the control socket");
            return Err(error.into());
        }
        failed = changing => {
            failed.context("cannot watch the files")?;
        }
        never = swap_at_hang_up(&watches, &mut hang_ups) => match never {},
        never = notify::report(&handles) => match never {},
    }
    results(running)?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the error of the first service that has ended with one.
fn results(running: Vec<Running>) -> Result<(), Failure> {
    let results = running.into_iter().filter_map(|running| running.result);
    let all: io::Result<()> = results.collect();
    all.context("the service ended")?;
    Ok(())
}

/// Returns the exit status after a second signal. It is a failure if connections
/// were still open.
fn status_after_cut_off(connections: u64) -> ExitCode {
    if connections == 0 {
        return ExitCode::SUCCESS;
    }
    tracing::warn!(connections, "a second signal, ending with connections open");
    ExitCode::FAILURE
}

/// Prints one ready line per listener, for people and for scripts that wait for it.
fn print_ready(services: &[One]) -> io::Result<()> {
    let mut stdout = output::stdout();
    for service in services.iter().map(|one| &one.service) {
        for address in service.local_addresses() {
            // In one write: the log may be on the same terminal.
            let line = format!(
                "listening {address} service={} contract={} dispatch={}\n",
                service.name(),
                service.contract(),
                service.dispatch(),
            );
            stdout.write_all(line.as_bytes())?;
        }
    }
    stdout.flush()
}
