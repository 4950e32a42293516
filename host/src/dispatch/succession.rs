//! What the drivers of shared instances do alike when what an instance knows passes to
//! another version.

use crate::dispatch;
use crate::guest::exports::Exports;
use crate::guest::instance::{Instance, Prepared};
use crate::version::Version;
use crate::version::entrance::{Arrival, Intake};
use crate::version::errands::Errand;
use crate::version::succession::Verdict;
use crate::version::versions::Versions;
use std::sync::Arc;

/// What the next instance of a driver begins with.
pub(super) enum Begin<E> {
    /// An instance that was made ahead.
    Prepared(Box<Instance<E>>),
    /// The first thing that came. The driver makes the instance.
    Arrival(Arrival),
    /// What the guest does beside its connections. The driver makes the instance.
    Errand(Errand),
}

impl<E: Exports + 'static> Begin<E> {
    /// Waits until there is something for an instance to do. `None` if no more can come.
    pub(super) async fn next(
        versions: &Arc<Versions>,
        version: &Arc<Version>,
        intake: &mut Intake,
    ) -> Option<Self> {
        match version.prepared().and_then(Prepared::instance) {
            Some(instance) => Some(Self::Prepared(Box::new(instance))),
            None => Self::first(versions, version, intake).await,
        }
    }

    /// Waits for what comes first. While it waits there is no instance, and so nothing to
    /// pass on.
    async fn first(
        versions: &Arc<Versions>,
        version: &Arc<Version>,
        intake: &mut Intake,
    ) -> Option<Self> {
        let ticks = Arc::clone(&intake.ticks);
        loop {
            let departure = tokio::select! {
                biased;
                arrival = intake.next_to_serve() => return arrival.map(Self::Arrival),
                departure = version.departing() => departure,
                errand = version.next_errand(versions, &ticks), if version.has_errands() => {
                    return Some(Self::Errand(errand));
                }
            };
            if departure.is_end() {
                // Nobody is told that there is nothing: an earlier state stays where it is.
                continue;
            }
            if departure.settle(None).await == Verdict::Left {
                version.release_next_gate();
                pass_on(versions, intake);
            }
        }
    }
}

/// Gives what came while a version departed to the version that is current now.
pub(super) fn pass_on(versions: &Arc<Versions>, intake: &mut Intake) {
    let (accepted, offers) = intake.take_unseen();
    for together in offers {
        let Some(home) = together.first().map(|offer| offer.home()) else {
            continue;
        };
        let handed = together.into_iter().filter_map(|offer| offer.withdraw());
        dispatch::offer(versions, handed.collect(), &home);
    }
    for connection in accepted {
        dispatch::deliver(versions, connection, None);
    }
}
