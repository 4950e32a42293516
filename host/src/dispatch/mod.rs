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
use crate::service::Shared;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Serves until the listeners are done and every connection has been handed to
/// its closing.
pub(crate) async fn run(service: &Arc<Shared>, listeners: Vec<OwnedFd>) -> io::Result<()> {
    let contract = service.handler.contract();
    if !service.handler.dispatch().shares_instance(contract) {
        return isolated::run(service, listeners).await;
    }
    match contract {
        Contract::Evented => evented::run(service, listeners).await,
        Contract::Concurrent | Contract::Blocking => concurrent::run(service, listeners).await,
    }
}
