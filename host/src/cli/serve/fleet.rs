//! The services of the process, which a reload of the configuration file changes.
//!
//! A reload is all or nothing. First everything that can fail is done beside what serves:
//! the file is read, new components are compiled and tried, new addresses are bound. Then
//! handlers are swapped, and if one of these swaps is refused, those before it are taken
//! back. Only then the rest is changed, which cannot fail. A service whose keys and whose
//! component are the same is not touched.

use super::changes::{Change, Present, make, settings};
use super::moves::Move;
use super::running::print_listeners;
use super::start::{One, Prepared};
use super::{ServiceKeys, running};
use crate::aside::aside;
use crate::cli::config::difference::{Arguments, Difference, arguments};
use crate::cli::config::{self, Mistakes, Source};
use crate::cli::notify;
use crate::cli::watch::{Stamp, Watch};
use crate::control::{Reload, ReloadError};
use crate::guest::handler::Handler;
use crate::service::settings::Settings;
use crate::service::swap::SwapOptions;
use crate::version::versions::Previous;
use crate::{GlobalLimits, LocalAddress, Registry, ServiceHandle};
use futures_util::future::BoxFuture;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;

/// The services of the process.
pub(super) struct Fleet {
    pub(super) registry: Arc<Registry>,
    /// The file, and what it said of the process. `None` if there is no file.
    file: Option<File>,
    /// What the services share.
    limits: Option<Arc<GlobalLimits>>,
    /// Locked during a reload, and while somebody looks.
    live: Mutex<Vec<Live>>,
    /// Locked during a reload.
    reloading: Mutex<()>,
    /// To the loop that waits for the ends of services.
    entering: mpsc::UnboundedSender<running::Running>,
    /// Where a watch goes that cannot go on.
    failed: mpsc::UnboundedSender<io::Error>,
}

/// A configuration file.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) process: BTreeMap<String, Vec<OsString>>,
}

/// A service that serves.
struct Live {
    handle: ServiceHandle,
    keys: Arc<ServiceKeys>,
    arguments: Arguments,
    /// As they were set last.
    settings: Option<Settings>,
    watch: Arc<Watch>,
    /// The task that looks at the component's file. `None` if it is not watched.
    watching: Option<AbortHandle>,
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Some(watching) = &self.watching {
            watching.abort();
        }
    }
}

impl Fleet {
    pub(super) fn new(
        registry: Arc<Registry>,
        file: Option<File>,
        limits: Option<Arc<GlobalLimits>>,
        entering: mpsc::UnboundedSender<running::Running>,
        failed: mpsc::UnboundedSender<io::Error>,
    ) -> Arc<Self> {
        Arc::new(Self {
            registry,
            file,
            limits,
            live: Mutex::default(),
            reloading: Mutex::default(),
            entering,
            failed,
        })
    }

    /// Lets a service of the start in.
    pub(super) async fn enter(&self, one: One, arguments: Arguments, has_others: bool) {
        self.list(&mut *self.live.lock().await, one, arguments, has_others);
    }

    /// Lists a service that serves, and lets its end be waited for.
    fn list(&self, all: &mut Vec<Live>, one: One, arguments: Arguments, has_others: bool) {
        let One {
            service,
            keys,
            loaded,
        } = one;
        let watch = Arc::new(Watch::new(&keys.component, loaded, service.handle()));
        let mut live = Live {
            handle: service.handle(),
            keys: Arc::clone(&keys),
            arguments,
            settings: settings(&keys).ok(),
            watch,
            watching: None,
        };
        self.watch(&mut live);
        self.registry.add(service.handle());
        all.push(live);
        // The receiver lives as long as the process serves.
        let _ = self.entering.send(running::Running {
            service,
            keeps_state: keys.service.state_file.is_some(),
            has_others,
        });
    }

    /// Looks at the component's file of a service, or no longer, as its keys say.
    fn watch(&self, live: &mut Live) {
        if let Some(watching) = live.watching.take() {
            watching.abort();
        }
        if !live.keys.watch {
            return;
        }
        let (watch, failed) = (Arc::clone(&live.watch), self.failed.clone());
        let task = tokio::spawn(async move {
            let Err(error) = watch.swap_at_change().await;
            let _ = failed.send(error);
        });
        live.watching = Some(task.abort_handle());
    }

    /// What the first service is swapped by, for `sockserve dev`.
    pub(super) async fn first_watch(&self) -> Option<Arc<Watch>> {
        let live = self.live.lock().await;
        live.first().map(|live| Arc::clone(&live.watch))
    }

    /// At SIGHUP: reads the configuration file again, or the components.
    pub(super) async fn hang_up(&self) {
        notify::reloading();
        if self.file.is_some() {
            // It is in the log.
            let _ = self.reload_now().await;
        } else {
            let live = self.live.lock().await;
            let watches: Vec<_> = live.iter().map(|live| Arc::clone(&live.watch)).collect();
            drop(live);
            for watch in watches {
                watch.swap_at_request().await;
            }
        }
        notify::ready();
    }

    /// Reads the configuration file again, and changes what it changes.
    async fn reload_now(&self) -> Result<Difference, ReloadError> {
        let result = self.try_reload().await;
        match &result {
            Ok(difference) => {
                for line in difference.lines() {
                    tracing::info!("reloaded: {line}");
                }
            }
            Err(error) => {
                for line in error.lines() {
                    tracing::warn!("not reloaded, the services go on as they were: {line}");
                }
            }
        }
        result
    }

    async fn try_reload(&self) -> Result<Difference, ReloadError> {
        let Some(file) = &self.file else {
            return Err(ReloadError::NoFile);
        };
        let Ok(_reloading) = self.reloading.try_lock() else {
            return Err(ReloadError::Busy);
        };
        let mut live = self.live.lock().await;
        check_serving(&live)?;
        // Those that have ended by themselves may come again.
        live.retain(|live| !live.handle.is_over());
        let path = file.path.clone();
        let read = aside("reload", move || config::read(&path)).await;
        let configuration = read.map_err(ReloadError::host)?.map_err(refused)?;
        if configuration.process != file.process {
            return Err(ReloadError::Restart(
                "the keys of the process have changed, which takes a restart".to_owned(),
            ));
        }
        let before = live
            .iter()
            .map(|live| (live.handle.name().to_owned(), live.arguments.clone()));
        let after = arguments(&configuration.services);
        let mut difference = Difference::new(&before.collect(), &after);
        let present: BTreeMap<_, _> = live
            .iter()
            .map(|live| {
                let present = Present {
                    handle: live.handle.clone(),
                    keys: Arc::clone(&live.keys),
                    settings: live.settings.clone(),
                };
                (live.handle.name().to_owned(), present)
            })
            .collect();
        let (wanted, limits) = (difference.clone(), self.limits.clone());
        let draining = self.registry.all();
        let source = configuration.source.clone();
        let runtime = Handle::current();
        let making = aside("reload", move || {
            make(
                &configuration,
                &wanted,
                &present,
                &draining,
                limits.as_ref(),
                &runtime,
            )
        })
        .await;
        let mut made = making.map_err(ReloadError::host)?.map_err(refused)?;
        for change in &made.changes {
            difference.note_content(&change.name, change.by_hand);
        }
        // What an instance knows may be refused; then the others are not swapped at all.
        made.changes.sort_by_key(|change| {
            let same = |live: &&Live| live.handle.name() == change.name;
            let present = live.iter().find(same);
            !present.is_some_and(|live| live.handle.handler().keeps_state())
        });
        let changes = made.changes;
        // A signal may have come meanwhile.
        check_serving(&live)?;
        swap(&changes, &live, &source).await?;
        // Nothing can fail from here on.
        for Move { from, address } in &made.moves {
            let has_it = |live: &&Live| live.handle.name() == from;
            if let Some(live) = live.iter().find(has_it) {
                live.handle.give_away(address);
            }
        }
        for change in changes {
            let at = |live: &&mut Live| live.handle.name() == change.name;
            if let Some(live) = live.iter_mut().find(at) {
                self.change(live, change, &after);
            }
        }
        let gone: Vec<_> = difference.removed.iter().collect();
        for Prepared {
            standby,
            keys,
            loaded,
        } in made.added
        {
            let service = standby.begin();
            say_listeners(&service.handle(), &service.local_addresses());
            let arguments = after.get(service.name()).cloned().unwrap_or_default();
            let one = One {
                service,
                keys,
                loaded,
            };
            self.list(&mut live, one, arguments, true);
        }
        for live in live
            .iter()
            .filter(|live| gone.iter().any(|it| *it == live.handle.name()))
        {
            tracing::info!(
                service = live.handle.name(),
                "draining, because the file has it no longer"
            );
            live.handle.drain();
        }
        live.retain(|live| !gone.iter().any(|it| *it == live.handle.name()));
        Ok(difference)
    }

    /// Changes what is left of a service, which was checked before.
    fn change(&self, live: &mut Live, change: Change, after: &BTreeMap<String, Arguments>) {
        let Change {
            name,
            keys,
            settings,
            listeners,
            ..
        } = change;
        live.settings = Some(settings.clone());
        if let Err(error) = live.handle.set(settings) {
            // It was checked, and addresses only come after this.
            tracing::error!(service = name, %error, "the settings stay as they were");
        }
        let added = live.handle.change_listeners(listeners);
        say_listeners(&live.handle, &added);
        live.arguments = after.get(&name).cloned().unwrap_or_default();
        let is_watched = live.keys.watch;
        let has_moved = live.keys.component != keys.component;
        live.keys = keys;
        if has_moved {
            let stamp = Stamp::of(live.keys.component.as_ref());
            live.watch = Arc::new(Watch::new(&live.keys.component, stamp, live.handle.clone()));
        }
        if has_moved || is_watched != live.keys.watch {
            self.watch(live);
        }
    }

    /// The keys of the services as they are now.
    async fn running(&self) -> BTreeMap<String, Arguments> {
        let live = self.live.lock().await;
        let all = live
            .iter()
            .map(|live| (live.handle.name().to_owned(), live.arguments.clone()));
        all.collect()
    }
}

impl Reload for Fleet {
    fn reload(&self) -> BoxFuture<'_, Result<Value, ReloadError>> {
        Box::pin(async {
            let difference = self.reload_now().await?;
            serde_json::to_value(difference).map_err(ReloadError::host)
        })
    }

    fn configuration(&self) -> BoxFuture<'_, Value> {
        Box::pin(async { serde_json::to_value(self.running().await).unwrap_or_default() })
    }
}

/// An error if all services are ending: a service that came now would outlive the process's
/// end.
fn check_serving(live: &[Live]) -> Result<(), ReloadError> {
    if live.iter().any(|live| live.handle.is_serving()) {
        Ok(())
    } else {
        Err(ReloadError::Ending)
    }
}

/// Tells people and scripts what is listened on now.
fn say_listeners(handle: &ServiceHandle, addresses: &[LocalAddress]) {
    // If standard output is closed, nobody wants to know.
    let _ = print_listeners(handle, addresses);
}

/// The lines of what is wrong with a file.
fn refused(mistakes: Mistakes) -> ReloadError {
    ReloadError::Refused(mistakes.lines().to_vec())
}

/// Swaps the handlers in. If one is refused, those before it are taken back, and have the
/// same version to go back to as they had.
async fn swap(changes: &[Change], live: &[Live], source: &Source) -> Result<(), ReloadError> {
    let mut done = Vec::new();
    for change in changes {
        let Some(new) = &change.handler else {
            continue;
        };
        let Some(live) = live.iter().find(|live| live.handle.name() == change.name) else {
            continue;
        };
        let handle = &live.handle;
        let (old, previous) = (handle.handler(), handle.previous());
        let swapped = handle.swap_handler(Arc::clone(new), SwapOptions::default());
        if let Err(error) = swapped.await {
            for (handle, old, previous) in done.into_iter().rev() {
                take_back(handle, old, previous).await;
            }
            let text = format!("the service {}: {error}", change.name);
            return Err(ReloadError::Refused(vec![source.said(change.at, &text)]));
        }
        done.push((handle, old, previous));
    }
    Ok(())
}

async fn take_back(handle: &ServiceHandle, old: Arc<Handler>, previous: Option<Previous>) {
    match handle.swap_handler(old, SwapOptions::default()).await {
        Ok(_) => handle.set_previous(previous),
        Err(error) => tracing::error!(service = handle.name(), %error, "not taken back"),
    }
}
