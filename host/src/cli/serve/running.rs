//! Services that serve, until all of them have ended.

use super::Plan;
use super::fleet::{File, Fleet};
use super::start::Started;
use crate::cli::config::difference;
use crate::cli::dev::{Begun, Builds};
use crate::cli::signals::{Ends, HangUps};
use crate::cli::{Failure, notify, output};
use crate::control::Reload;
use crate::{LocalAddress, Registry, Service, ServiceHandle};
use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long services that are cut off may take to keep what their instances know.
const CUT_OFF: Duration = Duration::from_secs(10);

/// How long requests that wait for the end are answered at most.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// A service that serves.
pub(super) struct Running {
    pub(super) service: Service,
    /// Whether what its instance knows is kept.
    pub(super) keeps_state: bool,
    /// Whether the process has or had other services, which may go on when this one has
    /// failed.
    pub(super) has_others: bool,
}

impl Running {
    /// Waits until the service has ended, and says so.
    async fn ended(mut self) -> io::Result<()> {
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
        result
    }
}

/// Serves until every service has ended or the process is told to end. `path` is the file
/// that describes the services, if there is one.
pub(super) async fn serve(
    plan: Plan,
    path: Option<&Path>,
    building: Option<(Begun, Arc<Builds>)>,
    started: Started,
    mut ends: Ends,
    mut hang_ups: HangUps,
) -> Result<ExitCode, Failure> {
    let Started {
        services,
        control,
        observer,
        limits,
    } = started;
    let (file, mut described) = match plan {
        Plan::One(_) => (None, Default::default()),
        Plan::File(configuration) => {
            let described = difference::arguments(&configuration.services);
            let file = path.map(|path| File {
                path: path.to_owned(),
                process: configuration.process,
            });
            (file, described)
        }
    };
    let (entering, mut entered) = mpsc::unbounded_channel();
    let (failing, mut failed) = mpsc::unbounded_channel();
    let registry = Arc::new(Registry::default());
    let has_file = file.is_some();
    let fleet = Fleet::new(Arc::clone(&registry), file, limits, entering, failing);
    let has_others = services.len() > 1;
    for one in services {
        let name = one.service.name().to_owned();
        print_listeners(&one.service.handle(), &one.service.local_addresses())
            .context("cannot print the ready line")?;
        let arguments = described.remove(&name).unwrap_or_default();
        fleet.enter(one, arguments, has_others).await;
    }
    let controlling = async {
        match &control {
            Some(control) => {
                let reload = has_file.then(|| Arc::clone(&fleet) as Arc<dyn Reload>);
                control.run(Arc::clone(&registry), reload).await
            }
            None => std::future::pending().await,
        }
    };
    if let Some(observer) = &observer {
        let address = observer.local_address().context("cannot start")?;
        tracing::info!(%address, "metrics and health are at http://{address}/metrics");
    }
    let observing = async {
        match &observer {
            Some(observer) => observer.run(Arc::clone(&registry)).await,
            None => std::future::pending().await,
        }
    };
    let (begun, builds) = building.unzip();
    notify::ready();
    let draining = async {
        ends.next().await;
        let services = registry.all();
        for service in &services {
            tracing::info!(service = service.name(), "draining");
        }
        notify::stopping();
        for service in &services {
            service.drain();
        }
        if let Some(builds) = &builds {
            builds.stop();
        }
        ends.next().await;
        registry
            .all()
            .iter()
            .map(|service| service.status().open)
            .sum()
    };
    let changing = async {
        match (begun, fleet.first_watch().await) {
            (Some(begun), Some(watch)) => begun.swap_at_edit(&watch).await.map(drop),
            _ => match failed.recv().await {
                Some(error) => Err(error),
                None => std::future::pending().await,
            },
        }
    };
    let hanging_up = async {
        loop {
            hang_ups.next().await;
            fleet.hang_up().await;
        }
    };
    let mut running = Waiting::default();
    tokio::select! {
        () = running.until_all_have_ended(&mut entered, &registry) => {
            if let Some(control) = &control {
                // Somebody may wait for this end.
                let _ = tokio::time::timeout(LAST_ANSWERS, control.answered()).await;
            }
        }
        // Open connections are not closed in order any more.
        connections = draining => {
            // What instances know is kept all the same.
            let keeping = running.cut_off(&registry);
            let _ = tokio::time::timeout(CUT_OFF, keeping).await;
            running.result.context("the service ended")?;
            return Ok(status_after_cut_off(connections));
        }
        failed = controlling => {
            let Err(error) = failed.context("cannot watch the control socket");
            return Err(error.into());
        }
        failed = observing => {
            let Err(error) = failed.context("cannot watch the address of --metrics");
            return Err(error.into());
        }
        failed = changing => {
            failed.context("cannot watch the files")?;
        }
        never = hanging_up => match never {},
        never = notify::report(&registry) => match never {},
    }
    running.result.context("the service ended")?;
    Ok(ExitCode::SUCCESS)
}

/// The services whose ends are waited for.
struct Waiting<'a> {
    ends: FuturesUnordered<futures_util::future::LocalBoxFuture<'a, (String, io::Result<()>)>>,
    /// Those that keep what their instance knows.
    keeping: Vec<String>,
    /// The first error of a service that has ended.
    result: io::Result<()>,
}

impl Default for Waiting<'_> {
    fn default() -> Self {
        Self {
            ends: FuturesUnordered::new(),
            keeping: Vec::new(),
            result: Ok(()),
        }
    }
}

impl Waiting<'_> {
    /// Waits until every service has ended, also those that enter meanwhile. Cancel-safe.
    async fn until_all_have_ended(
        &mut self,
        entered: &mut mpsc::UnboundedReceiver<Running>,
        registry: &Registry,
    ) {
        loop {
            tokio::select! {
                biased;
                Some(running) = entered.recv() => self.enter(running),
                Some(ended) = self.ends.next() => {
                    self.note(&ended.0, ended.1, registry);
                    if self.ends.is_empty() && entered.is_empty() {
                        return;
                    }
                }
            }
        }
    }

    fn enter(&mut self, running: Running) {
        let name = running.service.name().to_owned();
        if running.keeps_state {
            self.keeping.push(name.clone());
        }
        let ended = async move { (name, running.ended().await) };
        self.ends.push(Box::pin(ended));
    }

    fn note(&mut self, name: &str, result: io::Result<()>, registry: &Registry) {
        self.keeping.retain(|it| it != name);
        // Another one may have its name by now.
        registry.remove_if_over(name);
        if self.result.is_ok() {
            self.result = result;
        }
    }

    /// Cuts off the services that keep what their instance knows, and waits for them.
    async fn cut_off(&mut self, registry: &Registry) {
        for service in registry.all() {
            if self.keeping.iter().any(|name| name == service.name()) {
                service.abort();
            }
        }
        while !self.keeping.is_empty()
            && let Some((name, result)) = self.ends.next().await
        {
            self.note(&name, result, registry);
        }
    }
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

/// Prints one ready line per address that a service listens on, for people and for scripts
/// that wait for it.
pub(super) fn print_listeners(
    service: &ServiceHandle,
    addresses: &[LocalAddress],
) -> io::Result<()> {
    let mut stdout = output::stdout();
    let handler = service.handler();
    for address in addresses {
        // In one write: the log may be on the same terminal.
        let line = format!(
            "listening {address} service={} contract={} dispatch={}\n",
            service.name(),
            handler.contract(),
            handler.dispatch(),
        );
        stdout.write_all(line.as_bytes())?;
    }
    stdout.flush()
}
