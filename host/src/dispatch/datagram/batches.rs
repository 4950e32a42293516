//! One instance for all datagrams, called for each batch: `datagram` handlers under
//! `poll`.
//!
//! An instance ends when a call traps or takes longer than the deadline, and when its
//! version is replaced. The batch of a call that fails is lost; the next one gets a new
//! instance.

use super::source::Source;
use super::{Arrived, Serving, depart, run_errand};
use crate::contract::Contract;
use crate::datagram::MAX_BATCH;
use crate::datagram::batch::Batch;
use crate::datagram::outbox::Outbox;
use crate::dispatch::fault;
use crate::guest::exports::Datagram;
use crate::guest::failure::{Failure, HostPanic};
use crate::guest::instance::{Instance, Links, Prepared};
use crate::guest::stdio::Known;
use crate::lifecycle::Phase;
use crate::panics;
use crate::version::Version;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;

/// Serves batches. Returns false when no more will come, and true when the current
/// version has another contract.
pub(super) async fn run(serving: &Serving, source: &mut Source) -> io::Result<bool> {
    let mut outbox = Outbox::default();
    let mut instance: Option<Instance<Datagram>> = None;
    // The version of the instance, and its ticks.
    let mut version = None;
    let mut ticks = Arc::default();
    loop {
        let current = serving.versions.current();
        if current.handler.contract() != Contract::Datagram {
            return Ok(true);
        }
        if version.as_ref().is_none_or(|it| !Arc::ptr_eq(it, &current)) {
            // What an instance has must not stay with a version that is over.
            instance = current.prepared().and_then(Prepared::instance);
            version = Some(Arc::clone(&current));
            ticks = current.begin_ticks();
        }
        match serving.receive(source, &current, &ticks, MAX_BATCH).await? {
            Arrived::Datagrams => {}
            Arrived::Nothing => {
                serving.keep_last(instance).await;
                return Ok(false);
            }
            Arrived::Replaced => continue,
            Arrived::Departure(departure) => {
                depart(serving, &current, &mut instance, departure).await;
                continue;
            }
            Arrived::Errand(errand) => {
                run_errand(serving, &current, &mut instance, errand).await;
                continue;
            }
        }
        let Some(share) = current.take(source.batch.len()) else {
            if serving.versions.is_current(&current) {
                serving.versions.lose(source.batch.len());
                return Ok(false);
            }
            // A swap came between. The next version takes the batch.
            continue;
        };
        let calling = serve(serving, &current, &mut instance, &source.batch, &mut outbox);
        let mut calling = Box::pin(calling);
        let outcome = poll_fn(|cx| panics::poll(calling.as_mut(), cx)).await;
        drop(calling);
        let outcome = outcome.unwrap_or_else(|thrown| Err(HostPanic::new(&*thrown).into()));
        source.batch.clear();
        if !matches!(outcome, Ok(()) | Err(Failure::Guest(_))) {
            instance = None;
        }
        serving.finish(share, &outcome);
        if !serving.send(&mut outbox).await {
            serving.keep_last(instance).await;
            return Ok(false);
        }
    }
}

/// Gives a batch to the instance, which is made if there is none. What the guest wants
/// to be sent is in the outbox afterwards.
async fn serve(
    serving: &Serving,
    version: &Arc<Version>,
    instance: &mut Option<Instance<Datagram>>,
    batch: &Batch,
    outbox: &mut Outbox,
) -> Result<(), Failure> {
    fault::point(&serving.versions.service);
    let handler = &version.handler;
    let calling = async {
        let instance = match instance {
            Some(instance) => instance,
            None => {
                let scope = serving.versions.scope(None);
                instance.insert(Instance::new(handler, scope, Links::default()).await?)
            }
        };
        let Instance {
            store,
            clock,
            exports,
            deadline,
            partner,
            ..
        } = instance;
        let call = pin!(exports.receive(store, clock, batch.iter()));
        let call = pin!(deadline.hold(call));
        let call = pin!(serving.versions.calls.measure(call));
        let sender = batch.only_sender().cloned().map(Known::Sender);
        let called = partner.during(sender, call).await;
        called?.map_err(Failure::Guest)
    };
    let answers = tokio::select! {
        biased;
        answers = calling => answers?,
        () = version.reached(Phase::Aborting) => return Err(Failure::Aborted),
    };
    serving.post(outbox, handler, answers);
    Ok(())
}
