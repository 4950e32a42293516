//! What a reload makes beside what serves: all of it that can fail.

use super::ServiceKeys;
use super::moves::{Move, taken_over};
use super::start::{Loaded, Prepared, load, prepare};
use crate::cli::Failure;
use crate::cli::config::difference::{Changed, Difference, Takes};
use crate::cli::config::{Configuration, Described, Mistake, Mistakes};
use crate::component::builtin;
use crate::guest::handler::Handler;
use crate::listen::opening::Opened;
use crate::service::settings::{NewListeners, Settings};
use crate::{GlobalLimits, ServiceHandle};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::runtime::Handle;

/// What a reload does to a service that stays, as far as it can fail.
pub(super) struct Change {
    pub(super) name: String,
    /// Where it is in the file.
    pub(super) at: usize,
    pub(super) keys: Arc<ServiceKeys>,
    /// The handler to swap in. `None` if the present one stays.
    pub(super) handler: Option<Arc<Handler>>,
    pub(super) settings: Settings,
    pub(super) listeners: NewListeners,
    /// Whether something is not as the keys say, because it was changed by hand.
    pub(super) by_hand: bool,
}

/// A service as it serves before a reload.
pub(super) struct Present {
    pub(super) handle: ServiceHandle,
    pub(super) keys: Arc<ServiceKeys>,
    pub(super) settings: Option<Settings>,
}

/// What a reload needs, made beside what serves.
#[derive(Default)]
pub(super) struct Made {
    pub(super) added: Vec<Prepared>,
    pub(super) changes: Vec<Change>,
    pub(super) moves: Vec<Move>,
}

/// Compiles, binds and tries what a reload needs. Says everything that is wrong.
pub(super) fn make(
    configuration: &Configuration,
    difference: &Difference,
    present: &BTreeMap<String, Present>,
    draining: &[ServiceHandle],
    limits: Option<&Arc<GlobalLimits>>,
    runtime: &Handle,
) -> Result<Made, Mistakes> {
    let (mut made, mut mistakes) = (Made::default(), Vec::new());
    for service in &configuration.services {
        let taken = match taken_over(service, configuration, present) {
            Ok(taken) => taken,
            Err(mistake) => {
                mistakes.push(mistake);
                continue;
            }
        };
        let Some(before) = present.get(&service.name) else {
            if let Some(mistake) = keeps_state(service, draining) {
                mistakes.push(mistake);
                continue;
            }
            match prepare(Arc::clone(&service.keys), &taken.sockets, limits) {
                Ok(prepared) => {
                    made.added.push(prepared);
                    made.moves.extend(taken.moves);
                }
                Err(failure) => mistakes.push(service.mistake(&failure)),
            }
            continue;
        };
        let changed = difference
            .changed
            .iter()
            .find(|it| it.service == service.name);
        let known = mistakes.len();
        mistakes.extend(
            changed
                .into_iter()
                .flat_map(|changed| restarts(service, changed, before)),
        );
        if mistakes.len() > known {
            continue;
        }
        match make_change(service, changed, before, &taken.sockets, runtime) {
            Ok(change) => {
                made.changes.extend(change);
                made.moves.extend(taken.moves);
            }
            Err(failure) => mistakes.push(service.mistake(&failure)),
        }
    }
    match Mistakes::new(&configuration.source, mistakes) {
        Some(mistakes) => Err(mistakes),
        None => Ok(made),
    }
}

/// A mistake if the state file of a new service is that of one that has not ended: that one
/// will still write it.
fn keeps_state(service: &Described, draining: &[ServiceHandle]) -> Option<Mistake> {
    let file = service.keys.service.state_file.as_deref()?;
    let other = draining
        .iter()
        .find(|it| !it.is_over() && it.state_file() == Some(file))?;
    let text = format!(
        "the service {}: its state-file is still that of {}, which has not ended; reload again \
         when it has",
        service.name,
        other.name()
    );
    Some(Mistake::new(service.place("state-file"), text))
}

/// The keys of a service that cannot change while it serves.
fn restarts(service: &Described, changed: &Changed, before: &Present) -> Vec<Mistake> {
    let takes_datagrams = before.handle.handler().contract().takes_datagrams();
    let is_fixed = |key: &&String| match Takes::of(key) {
        Takes::Restart => true,
        // What is on its way to a socket for datagrams would be lost.
        Takes::Listeners => takes_datagrams,
        Takes::Version if *key == "dispatch" => takes_datagrams,
        Takes::Setting | Takes::Version => false,
    };
    let mistakes = changed.keys.iter().filter(is_fixed).map(|key| {
        let text = format!(
            "the service {} serves, and {key} cannot change meanwhile; restart the process, or \
             give the service another name",
            service.name
        );
        Mistake::new(service.place(key), text)
    });
    mistakes.collect()
}

/// What is to be done to a service that serves. `None` if that is nothing.
fn make_change(
    service: &Described,
    changed: Option<&Changed>,
    before: &Present,
    taken: &[Opened],
    runtime: &Handle,
) -> Result<Option<Change>, Failure> {
    let (keys, handle) = (&service.keys, &before.handle);
    let takes = |what| changed.is_some_and(|it| it.keys.iter().any(|key| Takes::of(key) == what));
    let settings = settings(keys)?;
    let has_settings = has_settings(&handle.handler(), keys);
    // A component may be another one under the same name.
    let is_new = takes(Takes::Version) || !has_settings || {
        let component = builtin::load_argument(&keys.component)?;
        component.digest() != handle.handler().digest()
    };
    let has_limits = handle.has_limits(&settings.limits);
    // A list of addresses may be another one in the same file.
    let is_set = has_limits && before.settings.as_ref() == Some(&settings);
    if changed.is_none() && !is_new && is_set {
        return Ok(None);
    }
    handle.check(&settings).map_err(Failure::usage)?;
    let handler = if is_new {
        let Loaded { handler, .. } = load(keys)?;
        // So most swaps cannot be refused any more.
        runtime.block_on(handle.try_handler(&handler))?;
        Some(Arc::new(handler))
    } else {
        None
    };
    Ok(Some(Change {
        name: service.name.clone(),
        at: service.at,
        keys: Arc::clone(keys),
        handler,
        settings,
        listeners: handle.bind_listeners(&before.keys.listen, &keys.listen, taken)?,
        by_hand: !(has_settings && has_limits),
    }))
}

/// Whether a handler has the settings that the keys say. A swap by hand and a rollback may
/// have changed them.
fn has_settings(handler: &Handler, keys: &ServiceKeys) -> bool {
    let (had, said) = (handler.options(), &keys.service.handler);
    let (had_limits, limits) = (&had.limits, said.limits.limits());
    let dispatch = said.dispatch;
    had.grants.env == said.grants.env()
        && had.dispatch == dispatch.unwrap_or_else(|| handler.contract().default_dispatch())
        && had_limits.max_memory_bytes == limits.max_memory_bytes
        && had_limits.deadline == limits.deadline
        && had_limits.max_connections == limits.max_connections
}

/// What a reload can set of a service, as its keys say.
pub(super) fn settings(keys: &ServiceKeys) -> Result<Settings, Failure> {
    Ok(Settings {
        limits: keys.service.handler.limits.limits(),
        rollback: keys.service.rollback.policy(),
        access_log: keys.service.access_log,
        admission: keys.service.admission.policy()?,
    })
}
