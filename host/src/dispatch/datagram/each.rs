//! An instance per datagram: `datagram` and `datagram-concurrent` handlers under
//! `sequential` and `threaded`.
//!
//! Each datagram is a task of the runtime and holds a permit. When all permits are out,
//! no more is received, and the kernel drops what it has no room for.

use super::source::Source;
use super::{Arrived, Serving, streams};
use crate::contract::{Contract, Dispatch};
use crate::datagram::MAX_BATCH;
use crate::datagram::address::Ends;
use crate::datagram::batch::Datagram as Received;
use crate::datagram::outbox::Outbox;
use crate::dispatch::fault;
use crate::guest::connection_table::ConnectionTable;
use crate::guest::exports::Datagram;
use crate::guest::failure::Failure;
use crate::guest::stdio::Known;
use crate::lifecycle::Phase;
use crate::version::Version;
use crate::version::share::Share;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// A datagram with its own bytes.
pub(super) struct Owned {
    ends: Ends,
    data: Vec<u8>,
}

impl From<Received<'_>> for Owned {
    fn from(received: Received<'_>) -> Self {
        Self {
            ends: received.ends.clone(),
            data: received.data.to_vec(),
        }
    }
}

impl Owned {
    pub(super) fn as_received(&self) -> Received<'_> {
        Received {
            ends: &self.ends,
            data: &self.data,
        }
    }
}

/// Starts a task for each datagram, until no more will come.
pub(super) async fn run(serving: &Arc<Serving>, source: &mut Source) -> io::Result<()> {
    // What instances do beside their datagrams, `errands` calls.
    let no_ticks = Arc::default();
    loop {
        let permit = Arc::clone(&serving.permits).acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        let current = serving.versions.current();
        let is_sequential = current.handler.dispatch() == Dispatch::Sequential;
        let count = if is_sequential {
            1
        } else {
            // Only this loop takes permits.
            MAX_BATCH.min(1 + serving.permits.available_permits())
        };
        match serving.receive(source, &current, &no_ticks, count).await? {
            Arrived::Datagrams => {}
            Arrived::Nothing => return Ok(()),
            // Instances that serve one datagram have nothing to pass on, and no errands here.
            Arrived::Replaced | Arrived::Departure(_) | Arrived::Errand(_) => continue,
        }
        let mut first = Some(permit);
        for datagram in source.batch.iter() {
            let permit = match first.take() {
                Some(permit) => permit,
                None => Arc::clone(&serving.permits)
                    .acquire_owned()
                    .await
                    .map_err(io::Error::other)?,
            };
            let Some(share) = serving.take_one() else {
                serving.versions.lose(1);
                continue;
            };
            let task = one(Arc::clone(serving), share, datagram.into(), permit);
            if is_sequential {
                // A task of its own, so that a panic costs no more than this one.
                if let Some(runtime) = serving.versions.runtime() {
                    let _ = runtime.spawn(task).await;
                }
            } else {
                serving.versions.spawn_task(task);
            }
        }
        source.batch.clear();
    }
}

/// Serves one datagram.
pub(super) async fn one(
    serving: Arc<Serving>,
    share: Share,
    datagram: Owned,
    permit: OwnedSemaphorePermit,
) {
    fault::point(&serving.versions.service);
    let version = Arc::clone(share.version());
    let mut outbox = Outbox::default();
    let calling = async {
        match version.handler.contract() {
            Contract::DatagramConcurrent => streams::one(&serving, &version, &datagram).await,
            _ => call(&serving, &version, &datagram, &mut outbox).await,
        }
    };
    let outcome = tokio::select! {
        biased;
        outcome = calling => outcome,
        () = version.reached(Phase::Aborting) => Err(Failure::Aborted),
    };
    serving.finish(share, &outcome);
    serving.send(&mut outbox).await;
    drop(permit);
}

/// Calls a `datagram` handler in an instance of its own. It may wait.
async fn call(
    serving: &Serving,
    version: &Version,
    datagram: &Owned,
    outbox: &mut Outbox,
) -> Result<(), Failure> {
    let handler = &version.handler;
    let mut scope = serving.versions.scope(None);
    scope.partner = Known::Sender(datagram.ends.peer.clone()).into();
    let (mut store, clock) = handler
        .store_in_turn(scope, ConnectionTable::empty())
        .await?;
    let (exports, _) = handler.instantiate::<Datagram>(&mut store, &clock).await?;
    let batch = std::iter::once(datagram.as_received());
    let call = pin!(exports.receive(&mut store, &clock, batch));
    let called = serving.versions.calls.measure(call).await;
    let called = called.map_err(|error| Failure::from_call(&error))?;
    serving.post(outbox, handler, called.map_err(Failure::Guest)?);
    Ok(())
}
