//! From an accepted connection to a call into a guest.
//!
//! A connection is admitted in stages, each with its own verb:
//!
//! | stage | where | what it does |
//! | --- | --- | --- |
//! | accept | `listen::accept` | takes a permit, then the socket (accept4) |
//! | deliver | [`deliver`] | passes it to the current version, or to the canary; again after a swap |
//! | give | [`give`] | passes it to one version, or returns it |
//! | admit | `Version::admit` | own instance: counts it there, for a task of its own |
//! | or queue | `Version::queue` | shared instance: counts it there, into the entrance |
//! | register | `Arrival::register` | shared instance: puts it on the driver's list |
//! | open | `opened` in a turn | `evented`: tells the guest |
//! | or handle | a call of `handle` | the other contracts: tells the guest |
//!
//! A connection that another version gave up is offered instead of delivered, see
//! `version::offer`. When the new version has accepted it, the last two stages are the
//! same.
//!
//! | file | contracts | instances |
//! | --- | --- | --- |
//! | `isolated` | `blocking`, `concurrent` | one per connection |
//! | `evented` | `evented` | one for all, called for each batch of events |
//! | `concurrent` | `concurrent` | one for all, many calls at once |
//! | `datagram` | `datagram`, `datagram-concurrent` | datagrams instead of connections |
//!
//! `isolated` serves all three dispatches: they differ in the number of the runtime's
//! threads, and in whether the next connection is let in before the last one is done.
//! The other two exist under `poll` only, and run on its one thread, or with `--loops` on
//! several, each with an instance and a driver of its own. The dispatch is that of the
//! version, and so is the runtime, if it takes another than the service's.
//!
//! `errands` calls what a handler does beside its connections: `error` and `tick`.
//! `supervision` runs the drivers of shared instances, and `succession` is how what such an
//! instance knows passes to the next version.

mod concurrent;
pub(crate) mod datagram;
mod errands;
mod evented;
pub(crate) mod fault;
mod isolated;
#[cfg(test)]
mod model_tests;
mod succession;
mod supervision;

use crate::connection::Connection;
use crate::contract::{Contract, Dispatch};
use crate::dispatch::evented::epoll::Poller;
use crate::guest::failure::Failure;
use crate::guest::hand_over::NOT_EXPORTED;
use crate::lifecycle::VersionNumber;
use crate::version::Version;
use crate::version::entrance::Intake;
use crate::version::offer::{self, Handed, Offer};
use crate::version::versions::Versions;
use std::io;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

/// Why a version under `sequential` does not take a connection over.
const NO_TURN: &str = "under sequential connections take turns, and it has none";

/// Prepares a version for its first connection. Does nothing if each connection gets an
/// instance of its own.
///
/// A shared instance gets what it needs of the system here, before the version becomes
/// current. The instance itself is made for the first connection.
pub(crate) fn start(versions: &Arc<Versions>, version: &Arc<Version>) -> io::Result<()> {
    if !version.handler.shares_instance() {
        errands::start(versions, version);
        return Ok(());
    }
    let needs_poller = match version.handler.contract() {
        Contract::Evented => true,
        Contract::Datagram | Contract::DatagramConcurrent => return Ok(()),
        Contract::Concurrent | Contract::Blocking | Contract::Command | Contract::CommandP3 => {
            false
        }
    };
    // One event loop is that of the version's runtime.
    let first = match needs_poller {
        true => Some(version.in_runtime(versions, Poller::new)??),
        false => None,
    };
    let mut more = Vec::new();
    for workers in versions.loops_of(version) {
        let poller = match needs_poller {
            true => Some(workers.in_runtime(Poller::new)?),
            false => None,
        };
        more.push((workers, poller));
    }
    let drive = |intake, poller| {
        let (serving, served) = (Arc::clone(versions), Arc::clone(version));
        supervision::run(serving, served, intake, poller)
    };
    let mut intakes = version.open_intakes(1 + more.len()).into_iter();
    if let Some(intake) = intakes.next() {
        version.spawn_task(versions, drive(intake, first));
    }
    for ((workers, poller), intake) in more.into_iter().zip(intakes) {
        workers.spawn(drive(intake, poller));
    }
    Ok(())
}

/// Gives a connection to the version that is current, or to the canary. Closes it if the service is
/// ending.
///
/// `turn` is the connection's turn under `sequential`, and `None` otherwise.
pub(crate) fn deliver(
    versions: &Arc<Versions>,
    mut connection: Arc<Connection>,
    mut turn: Option<OwnedSemaphorePermit>,
) {
    if let Some(canary) = versions.canary_for_next() {
        match give(versions, &canary, connection, &mut turn) {
            Ok(()) => return,
            // It has ended meanwhile.
            Err(refused) => connection = refused,
        }
    }
    loop {
        let version = versions.current();
        match give(versions, &version, connection, &mut turn) {
            Ok(()) => return,
            Err(refused) => connection = refused,
        }
        // Either a swap came between, and the new version takes the connection; or the
        // service is ending, and no version does.
        if versions.is_current(&version) {
            let ending = Arc::clone(versions);
            versions.spawn_task(async move { ending.close_unserved(connection).await });
            return;
        }
    }
}

/// Gives a connection to a version, and gives it back if the version takes no more.
pub(crate) fn give(
    versions: &Arc<Versions>,
    version: &Arc<Version>,
    connection: Arc<Connection>,
    turn: &mut Option<OwnedSemaphorePermit>,
) -> Result<(), Arc<Connection>> {
    if version.handler.shares_instance() {
        return version.queue(connection);
    }
    let admitted = version.admit(connection)?;
    isolated::spawn(versions, admitted, turn.take());
    Ok(())
}

/// Asks the connections of a version to go to the version `to`. Does nothing if they were
/// asked to go to that one, or to a later one.
pub(crate) fn ask(versions: &Arc<Versions>, version: &Arc<Version>, to: VersionNumber) {
    version.ask(to);
    if !version.handler.shares_instance() {
        let asked = Arc::clone(version);
        version.spawn_task(versions, async move { asked.tell_in_groups().await });
    }
}

/// Offers connections, which their version has given up, to the version that is
/// current. Those that it does not take return by `home`.
pub(crate) fn offer(versions: &Arc<Versions>, handed: Vec<Handed>, home: &UnboundedSender<Handed>) {
    let mut fit = Vec::with_capacity(handed.len());
    for handed in handed {
        match offer::check(&handed.state) {
            Ok(()) => fit.push(handed),
            Err(reason) => {
                let to = handed.admitted.stay.version().asks_for();
                offer::send_home(versions, handed, home, to, &reason);
            }
        }
    }
    while !fit.is_empty() {
        let to = versions.current();
        // Offered before the version's phase is read, so that the version is not
        // forgotten in between.
        let offers: Vec<_> = fit
            .drain(..)
            .map(|handed| Offer::new(versions, &to, handed, home))
            .collect();
        if !to.is_serving() && versions.is_current(&to) {
            refuse_all(offers, "the service is ending");
        } else if !to.handler.takes_over() {
            refuse_all(offers, NOT_EXPORTED);
        } else {
            // One that comes from another dispatch has no turn, and would be served beside
            // the one that has.
            let takes_turns = to.handler.dispatch() == Dispatch::Sequential;
            let has_turn = |offer: &Offer| offer.handed().is_some_and(|it| it.turn.is_some());
            let (offers, without): (Vec<_>, _) = offers
                .into_iter()
                .partition(|offer| !takes_turns || has_turn(offer));
            refuse_all(without, NO_TURN);
            // If a swap came between, the next round offers them to a later version.
            let refused = give_offers(versions, &to, offers);
            fit.extend(refused.into_iter().filter_map(Offer::withdraw));
        }
    }
}

/// Offers the connections that a shared instance has given up, and releases the gate of
/// the next version.
fn offer_together(
    versions: &Arc<Versions>,
    from: &Arc<Version>,
    given_up: Vec<Handed>,
    intake: &mut Intake,
) {
    offer(versions, given_up, &intake.home());
    from.release_next_gate();
}

/// Offers the connections that a shared instance had given up before it ended by
/// `failure`: their states are complete. Closes them if the version aborts.
fn save(
    versions: &Arc<Versions>,
    from: &Arc<Version>,
    given_up: Vec<Handed>,
    failure: &Failure,
    intake: &mut Intake,
) {
    if matches!(failure, Failure::Aborted) {
        for handed in given_up {
            offer::close(versions, handed, Failure::Aborted);
        }
    } else if !given_up.is_empty() {
        offer_together(versions, from, given_up, intake);
    }
}

/// Refuses offers, so that their connections go home.
fn refuse_all(offers: Vec<Offer>, reason: &str) {
    offers.into_iter().for_each(|offer| offer.refuse(reason));
}

/// Gives offers to a version, and returns them if the version takes no more.
fn give_offers(versions: &Arc<Versions>, to: &Arc<Version>, offers: Vec<Offer>) -> Vec<Offer> {
    if to.handler.shares_instance() {
        return to.queue_offers(offers).err().unwrap_or_default();
    }
    if !to.is_serving() {
        return offers;
    }
    for offer in offers {
        isolated::spawn_offered(versions, Arc::clone(to), offer);
    }
    Vec::new()
}
