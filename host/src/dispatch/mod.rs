//! From an accepted connection to a call into a guest.
//!
//! | file | contracts | instances |
//! | --- | --- | --- |
//! | `isolated` | `blocking`, `concurrent` | one a connection |
//! | `evented` | `evented` | one for all, called for each batch of events |
//! | `concurrent` | `concurrent` | one for all, many calls at once |
//!
//! `isolated` serves all three dispatches: what differs is how many threads the
//! runtime has and whether the next connection is let in before the last one is
//! done. The other two exist under `poll` only and run on its one thread.

mod concurrent;
mod evented;
mod isolated;
mod poller;

use crate::contract::Contract;
use crate::service::{Admitted, Shared};
use crate::version::Version;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Gives a connection to the version that is current.
///
/// `turn` is what `sequential` lets the next connection in by. Called on the
/// service's threads.
pub(crate) fn deliver(
    service: &Arc<Shared>,
    mut admitted: Admitted,
    turn: Option<OwnedSemaphorePermit>,
) {
    loop {
        let version = service.current.load_full();
        if !version.handler.shares_instance() {
            if version.begin() {
                isolated::spawn(service, version, admitted, turn);
                return;
            }
        } else {
            match give(service, &version, admitted) {
                Ok(()) => return,
                Err(refused) => admitted = refused,
            }
        }
        // A swap came between, and the new version takes it; or the service is
        // ending, and nobody does.
        if Arc::ptr_eq(&version, &service.current.load()) {
            let service = Arc::clone(service);
            tokio::spawn(async move { service.close_unserved(admitted).await });
            return;
        }
    }
}

/// Gives a connection to a version of a handler that nobody else uses.
pub(crate) fn deliver_to(service: &Arc<Shared>, version: &Arc<Version>, admitted: Admitted) {
    if !version.handler.shares_instance() {
        if version.begin() {
            isolated::spawn(service, Arc::clone(version), admitted, None);
        }
    } else {
        // Refused only if the version has ended already.
        let _ = give(service, version, admitted);
    }
}

/// Gives a connection to the shared instance of a version, or back.
fn give(service: &Arc<Shared>, version: &Arc<Version>, admitted: Admitted) -> Result<(), Admitted> {
    version.take_in(admitted, |intake| {
        let (service, version) = (Arc::clone(service), Arc::clone(version));
        match version.handler.contract() {
            Contract::Evented => {
                tokio::spawn(evented::run(service, version, intake));
            }
            Contract::Concurrent | Contract::Blocking => {
                tokio::spawn(concurrent::run(service, version, intake));
            }
        }
    })
}
