//! The loop of who writes a handler: an edit, a build, a swap.
//!
//! A project lives as long as its service. One build runs at a time, and each swap comes
//! after a whole build. What goes wrong is a line of the log, and the next edit is waited
//! for.

use super::build::Builds;
use super::edits::{Edit, Edits};
use crate::aside::aside;
use crate::cli::Failure;
use crate::cli::watch::Watch;
use crate::component::builtin::LoadError;
use crate::service::swap::Swapped;
use crate::{HandlerError, StartError};
use anyhow::Context as _;
use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is said of a service that has no version yet.
const WAITING: &str = "nothing is served yet, an edit is waited for";

/// The project in the current folder.
pub(in crate::cli) struct Project {
    builds: Arc<Builds>,
    component: PathBuf,
}

/// A project whose first component is served, and the edits since the last build.
pub(in crate::cli) struct Begun {
    builds: Arc<Builds>,
    edits: Edits,
    /// How long the last build took.
    built: Duration,
}

impl Project {
    pub(super) fn new(command: &str, component: &OsStr) -> Self {
        Self {
            builds: Arc::new(Builds::new(command)),
            component: component.into(),
        }
    }

    pub(in crate::cli) fn builds(&self) -> Arc<Builds> {
        Arc::clone(&self.builds)
    }

    /// Builds until there is a component that `start` takes. Fails if `start` does for
    /// another reason than the component.
    pub(in crate::cli) async fn start<T>(
        self,
        start: impl AsyncFn() -> Result<T, Failure>,
    ) -> Result<(T, Begun), Failure> {
        let component = self.component;
        let looking = aside("edits", move || {
            std::env::current_dir().map(|folder| Edits::new(&folder, &component))
        });
        let edits = looking
            .await
            .flatten()
            .context("cannot look at the files")?;
        let mut begun = Begun {
            builds: self.builds,
            edits,
            built: Duration::ZERO,
        };
        let mut edit: Option<Edit> = None;
        loop {
            if begun.build(edit.as_ref(), WAITING).await {
                let began = Instant::now();
                match start().await {
                    Ok(started) => {
                        let live = begun.live(edit.as_ref(), 1, "start", began.elapsed());
                        tracing::info!("{live}");
                        return Ok((started, begun));
                    }
                    Err(failure) if is_about_component(&failure) => {
                        tracing::warn!("not started: {failure}; {WAITING}");
                    }
                    Err(failure) => return Err(failure),
                }
            }
            let next = begun.edit().await.context("cannot look at the files")?;
            begun = next.0;
            edit = Some(next.1);
        }
    }
}

/// Whether another component might start.
fn is_about_component(failure: &Failure) -> bool {
    let (Failure::Usage(error) | Failure::Failed(error)) = failure else {
        return false;
    };
    error.is::<LoadError>()
        || error.is::<HandlerError>()
        || matches!(error.downcast_ref(), Some(StartError::Handler(_)))
}

impl Begun {
    /// Builds after each edit and swaps the component in. Fails if there is no thread for
    /// the looks.
    pub(in crate::cli) async fn swap_at_edit(mut self, watch: &Watch) -> io::Result<Infallible> {
        let service = watch.service();
        loop {
            let (begun, edit) = self.edit().await?;
            self = begun;
            let serving = format!("version {} serves on", watch.version());
            if !self.build(Some(&edit), &serving).await {
                continue;
            }
            let handed_over = || service.status().hand_overs.handed_over;
            let (began, before) = (Instant::now(), handed_over());
            match watch.swap().await {
                Ok(Swapped { changed: false, .. }) => {
                    tracing::info!(
                        service = service.name(),
                        "not swapped, the build made the component that is served already \
                         (build {})",
                        seconds(self.built)
                    );
                }
                Ok(swapped) => {
                    let version = swapped.version;
                    let live = self.live(Some(&edit), version, "swap", began.elapsed());
                    let count = handed_over().saturating_sub(before);
                    let connections = if count == 1 {
                        "connection"
                    } else {
                        "connections"
                    };
                    let staying = match swapped.staying {
                        0 => String::new(),
                        staying => format!(", {staying} still with the version before"),
                    };
                    tracing::info!(
                        service = service.name(),
                        "{live}, {count} {connections} handed over{staying}"
                    );
                }
                Err(error) => watch.warn(&error),
            }
        }
    }

    /// Waits for the next edit, on a thread that may block.
    async fn edit(mut self) -> io::Result<(Self, Edit)> {
        aside("edits", move || {
            let edit = self.edits.next(self.built);
            (self, edit)
        })
        .await
    }

    /// Builds, and says so. Returns whether the command succeeded. `otherwise` is what goes
    /// on if it does not.
    async fn build(&mut self, edit: Option<&Edit>, otherwise: &str) -> bool {
        match edit {
            Some(edit) => tracing::info!("building: {edit}"),
            None => tracing::info!("building: {}", self.builds.command()),
        }
        let began = Instant::now();
        let result = self.builds.build().await;
        self.built = began.elapsed();
        let took = seconds(self.built);
        match result {
            Ok(status) if status.success() => return true,
            Ok(status) => {
                tracing::warn!("the build failed after {took} ({status}); {otherwise}");
            }
            Err(error) => tracing::warn!("the build cannot be run: {error}; {otherwise}"),
        }
        false
    }

    /// What is said of a version that has begun to serve just now. `step` has taken `took`.
    fn live(&self, edit: Option<&Edit>, version: u32, step: &str, took: Duration) -> String {
        let built = seconds(self.built);
        let (from, all) = match edit {
            Some(edit) => (format!("{edit} → "), edit.at.elapsed()),
            None => (String::new(), self.built + took),
        };
        let (all, took) = (seconds(all), seconds(took));
        format!("live: {from}version {version} in {all} (build {built}, {step} {took})")
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
