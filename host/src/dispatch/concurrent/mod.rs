//! One instance for all connections, with one call per connection: `concurrent`
//! handlers under `poll`.
//!
//! The calls run as tasks of one store's event loop. A trap ends the store and all its
//! calls; the connections are closed, and the next connection gets a new instance. When
//! the connections are to be handed over, the calls are told, and the connections whose
//! calls have returned are offered together. If the connections are independent of each
//! other, that is done for one group of them after another.
//!
//! A single call cannot be cancelled: only dropping the store ends it (wasmtime
//! #11833). That is how an abort ends all calls. A task that outlives its connection
//! keeps running, but its resources are dead.

mod leaving;

use crate::connection::attention::Attention;
use crate::connection::{Connection, ConnectionId};
use crate::dispatch::succession::Begin;
use crate::dispatch::{errands, fault, save};
use crate::guest::State;
use crate::guest::connection_table::OpenConnections;
use crate::guest::deadline::{Deadline, Watched};
use crate::guest::exports::Concurrent;
use crate::guest::failure::Failure;
use crate::guest::hand_over::{ConnectionState, HandOver};
use crate::guest::instance::{Instance, Links};
use crate::guest::instance_state::{InstanceState, Keeper};
use crate::guest::life_cycle;
use crate::lifecycle::{Phase, VersionNumber};
use crate::panics::{self, Thrown};
use crate::sync::lock;
use crate::version::Version;
use crate::version::asking::Rolling;
use crate::version::entrance::{Arrival, Intake, Registered};
use crate::version::errands::Errand;
use crate::version::offer::{Batch, GivenUp};
use crate::version::stay::{Admitted, Stay};
use crate::version::succession::Departure;
use crate::version::versions::Versions;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use leaving::Leaving;
use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::resume_unwind;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use tokio::task::{JoinHandle, yield_now};
use wasmtime::component::Accessor;

/// Runs one instance after another until no more connections can come.
pub(super) async fn run(versions: &Arc<Versions>, version: &Arc<Version>, intake: &mut Intake) {
    // An instance is made when there is a connection to serve.
    while let Some(begin) = Begin::next(versions, version, intake).await {
        let links = match &begin {
            Begin::Prepared(instance) => instance.links.clone(),
            Begin::Arrival(_) | Begin::Errand(_) => Links::default(),
        };
        let serving = Serving {
            versions: Arc::clone(versions),
            version: Arc::clone(version),
            open: links.open.clone(),
            stays: Mutex::default(),
            died: Mutex::default(),
            told: Mutex::default(),
            undecided: Mutex::default(),
            given_up: Mutex::default(),
            flushing: Mutex::default(),
            attention: Arc::default(),
            watched: Watched::new(Deadline(version.handler.limits().deadline)),
        };
        let ended = serving.run(begin, links, intake).await;
        if let Some(thrown) = lock(&serving.died).take() {
            resume_unwind(thrown);
        }
        match ended {
            Ok(()) => break,
            Err(failure) => serving.fail_all(failure, intake),
        }
    }
}

/// One instance and its connections.
struct Serving {
    versions: Arc<Versions>,
    version: Arc<Version>,
    open: OpenConnections,
    /// What counts each of those connections on the version.
    stays: Mutex<HashMap<ConnectionId, Stay>>,
    /// A panic of this driver inside the store's event loop, to be resumed outside. A
    /// panic of the guest's calls is not put here.
    died: Mutex<Option<Thrown>>,
    /// The version that the guest was told to hand its connections over to. `None`
    /// before that.
    told: Mutex<Option<VersionNumber>>,
    /// The offers that the guest was deciding about when it died. They are kept here
    /// because a trap ends the event loop and drops what is in it.
    undecided: Mutex<Batch>,
    /// Connections that are given up and not offered yet, outside of the event loop for
    /// the same reason.
    given_up: Mutex<GivenUp>,
    /// Connections whose output from an earlier version is still being sent.
    flushing: Mutex<HashMap<ConnectionId, Flushing>>,
    /// Where connections are found that the host is to end.
    attention: Arc<Attention>,
    /// The calls of `hand-over`, `instance-state` and the life cycle, which must not take
    /// longer than a turn.
    watched: Watched,
}

/// A task that is aborted when this is dropped.
struct Flushing(JoinHandle<()>);

impl Drop for Flushing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Offers while the guest decides about them. When this is dropped, those that are left
/// move to `undecided`.
struct Deciding<'a> {
    batch: Batch,
    serving: &'a Serving,
}

impl Drop for Deciding<'_> {
    fn drop(&mut self) {
        *lock(&self.serving.undecided) = std::mem::take(&mut self.batch);
    }
}

/// The instance's exports, inside the event loop of its store.
struct Guest<'a> {
    accessor: &'a Accessor<State>,
    exports: &'a Concurrent,
    hand_over: &'a HandOver,
    keeper: &'a Keeper,
}

impl Serving {
    /// Serves until no more connections can come, the version aborts, or the instance
    /// dies.
    async fn run(
        &self,
        begin: Begin<Concurrent>,
        links: Links,
        intake: &mut Intake,
    ) -> Result<(), Failure> {
        let (prepared, first, errand) = match begin {
            Begin::Prepared(instance) => (Some(instance), Registered::Nothing, None),
            Begin::Arrival(first) => (None, self.register(first), None),
            Begin::Errand(errand) => (None, Registered::Nothing, Some(errand)),
        };
        let handler = &self.version.handler;
        let serving = async {
            let Instance {
                mut store,
                clock,
                exports,
                hand_over,
                keeper,
                ..
            } = match prepared {
                Some(instance) => *instance,
                None => Instance::new(handler, self.versions.scope(None), links).await?,
            };
            let serving = store.run_concurrent(async |accessor| {
                let guest = Guest {
                    accessor,
                    exports: &exports,
                    hand_over: &hand_over,
                    keeper: &keeper,
                };
                let calls = self.calls(&guest, first, errand, intake);
                // The event loop polls this again after each of its steps, and a read of the
                // guest has three. The set polls it only when something has woken it, and then
                // has the loop look once more.
                let mut calls: FuturesUnordered<_> = std::iter::once(calls).collect();
                let calls = poll_fn(|cx| panics::poll(Pin::new(&mut calls.select_next_some()), cx));
                clock.between_calls(calls).await.unwrap_or_else(|thrown| {
                    *lock(&self.died) = Some(thrown);
                    Err(Failure::Aborted)
                })
            });
            match clock.count(pin!(serving)).await {
                Ok(result) => result,
                Err(error) => Err(Failure::from_call(&error)),
            }
        };
        tokio::select! {
            biased;
            // First, so that nothing more is accepted. This drops the store, and all
            // calls end: they cannot be cancelled otherwise (wasmtime #11833).
            () = self.version.reached(Phase::Aborting) => Err(Failure::Aborted),
            result = serving => result,
            overdue = self.watched.overdue() => Err(overdue.into()),
        }
    }

    /// Runs inside the store's event loop: registers arrivals, finishes the connections
    /// whose calls end, and hands over those that are to leave.
    async fn calls(
        &self,
        guest: &Guest<'_>,
        first: Registered,
        errand: Option<Errand>,
        intake: &mut Intake,
    ) -> Result<(), Failure> {
        let mut calls = FuturesUnordered::new();
        let call = async |id| (id, self.call(guest, id).await);
        calls.extend(self.welcome(guest, first).await?.into_iter().map(&call));
        if let Some(errand) = errand {
            self.run_errand(guest, errand).await?;
        }
        let mut leaving = Leaving::default();
        let (has_errands, ticks) = (self.version.has_errands(), Arc::clone(&intake.ticks));
        let keeps_state = self.version.handler.keeps_state();
        let mut departure: Option<Departure> = None;
        let mut rolling: Option<Rolling<'_>> = None;
        let mut is_independent = None;
        loop {
            fault::point(&self.versions.service);
            // Arrivals, and offers that are not decided about, come before leaving.
            let finished = intake.is_finished();
            if let Some(departing) = departure.take_if(|_| leaving.is_gathered()) {
                let staying = self.depart(guest, &mut leaving, intake, departing).await?;
                calls.extend(staying.into_iter().map(&call));
                continue;
            }
            // Calls may also return late when they were told to leave for a version that
            // then did not come.
            let may_leave = finished || self.versions.is_current(&self.version);
            if may_leave && leaving.is_gathered() {
                let staying = self.leave(guest, leaving.take(), intake).await?;
                calls.extend(staying.into_iter().map(&call));
                continue;
            }
            if finished && leaving.is_at_rest() && rolling.is_some() {
                // The group before is settled. The runtime looks at its sockets first: with two
                // versions that keep each other busy it would do so only now and then. Another
                // task waits for that, because the event loop of the store polls this one again.
                let _ = tokio::spawn(yield_now()).await;
                rolling = rolling.and_then(|rolling| self.tell_next(&mut leaving, rolling));
            }
            if finished && calls.is_empty() {
                return Ok(());
            }
            let (offered_to, patience) = (leaving.to(), leaving.patience());
            let may_depart = keeps_state && !finished && departure.is_none() && intake.is_settled();
            tokio::select! {
                biased;
                Some((id, result)) = calls.next() => {
                    // If the call died, the instance died with it.
                    let returned = result?;
                    let leaves = returned.is_ok() && self.was_told(id);
                    leaving.returned(id, leaves);
                    if !leaves {
                        self.finish(id, returned.map_err(Failure::Guest));
                    }
                }
                // What comes while the version departs is for the next one.
                arrival = intake.next(), if !finished && departure.is_none() => {
                    if let Some(arrival) = arrival {
                        let arrived = self.register(arrival);
                        calls.extend(self.welcome(guest, arrived).await?.into_iter().map(&call));
                    }
                }
                to = self.version.asked_after(offered_to), if finished => {
                    let is_independent = match is_independent {
                        Some(said) => said,
                        None => *is_independent.insert(self.is_independent(guest).await?),
                    };
                    if is_independent {
                        rolling = Some(self.roll(&mut leaving, to));
                    } else {
                        self.tell(&mut leaving, to);
                    }
                }
                departing = self.version.departing(), if may_depart => {
                    match departing.hands_over_to() {
                        Some(to) => self.tell(&mut leaving, to),
                        None => leaving.begin_alone(),
                    }
                    departure = Some(departing);
                }
                () = patience => leaving.lose_patience(),
                () = self.attention.woken() => self.cut(),
                errand = self.version.next_errand(&self.versions, &ticks), if has_errands => {
                    self.run_errand(guest, errand).await?;
                }
            }
        }
    }

    /// Calls what the guest does beside its connections.
    async fn run_errand(&self, guest: &Guest<'_>, errand: Errand) -> Result<(), Failure> {
        let (versions, version) = (&self.versions, &self.version);
        errands::run_in(versions, version, &self.watched, guest.accessor, errand).await
    }

    /// Tells all calls, and those that begin from now on, that they are to leave for the
    /// version `to`; or, with `None`, that they are not.
    fn notify(&self, to: Option<VersionNumber>) {
        *lock(&self.told) = to;
        for connection in self.open.lock().values() {
            connection.notice().give(to);
        }
    }

    /// Calls `handle` for a connection, and returns what the handler returns.
    async fn call(
        &self,
        guest: &Guest<'_>,
        id: ConnectionId,
    ) -> Result<Result<(), String>, Failure> {
        let socket = {
            // No reference to the connection may outlive this block: it may be handed
            // over.
            let open = self.open.lock();
            let connection = open
                .get(&id)
                .ok_or_else(|| Failure::Host(format!("connection {id} is not open")))?;
            Concurrent::push(guest.accessor, connection)?
        };
        let call = guest.exports.handle_in(guest.accessor, socket);
        self.versions.calls.measure(pin!(call)).await
    }

    /// Puts an arrival on the driver's list, if it is this version's connection.
    fn register(&self, arrival: Arrival) -> Registered {
        arrival.register(|admitted| {
            self.insert(admitted);
        })
    }

    /// Puts a connection on the driver's list.
    fn insert(&self, admitted: Admitted) -> ConnectionId {
        let Admitted { connection, stay } = admitted;
        let id = connection.id();
        connection.set_end_attention(&self.attention);
        connection.notice().give(*lock(&self.told));
        lock(&self.stays).insert(id, stay);
        self.open.lock().insert(id, connection);
        id
    }

    /// Removes a connection from the driver's list. `None` if it is not there.
    fn remove(&self, id: ConnectionId) -> Option<Admitted> {
        let connection = self.open.lock().remove(&id)?;
        let stay = lock(&self.stays).remove(&id)?;
        Some(Admitted { connection, stay })
    }

    /// Calls `accept` for connections that were offered or came back; new ones need no
    /// call. Returns the connections to serve.
    async fn welcome(
        &self,
        guest: &Guest<'_>,
        arrived: Registered,
    ) -> Result<Vec<ConnectionId>, Failure> {
        match arrived {
            Registered::Nothing => Ok(Vec::new()),
            Registered::Accepted(id) => self.verify(guest, id).await,
            Registered::Offers(offers) => {
                let mut deciding = Deciding {
                    batch: Batch::new(offers),
                    serving: self,
                };
                while let Some(handed) = deciding.batch.next() {
                    let (id, state) = (handed.admitted.connection.id(), &handed.state);
                    let decision = self.watched.hold(pin!(guest.accept(id, state))).await;
                    deciding.batch.decide(decision)?;
                }
                let batch = std::mem::take(&mut deciding.batch);
                let enter = |admitted: Admitted| {
                    self.flush(&admitted.connection);
                    self.insert(admitted)
                };
                Ok(batch.accept().map(enter).collect())
            }
            Registered::Returned(id, state) => {
                match self.watched.hold(pin!(guest.accept(id, &state))).await? {
                    Ok(()) => Ok(vec![id]),
                    Err(reason) => {
                        self.finish(id, Err(Failure::RefusedBack(reason)));
                        Ok(Vec::new())
                    }
                }
            }
        }
    }

    /// Asks the guest whether a new peer may come in. Returns the connection to serve, or
    /// closes it.
    async fn verify(
        &self,
        guest: &Guest<'_>,
        id: ConnectionId,
    ) -> Result<Vec<ConnectionId>, Failure> {
        if self.version.verifies() {
            let connection = self.open.lock().get(&id).map(Arc::clone);
            if let Some(connection) = connection {
                let verifying = life_cycle::verify_in(guest.accessor, &connection);
                if let Err(reason) = self.watched.hold(pin!(verifying)).await? {
                    self.finish(id, Err(Failure::Unverified(reason)));
                    return Ok(Vec::new());
                }
            }
        }
        Ok(vec![id])
    }

    /// Starts to send what an earlier version on WASI 0.2 left unsent.
    fn flush(&self, connection: &Arc<Connection>) {
        if !connection.has_unsent() {
            return;
        }
        let (id, connection) = (connection.id(), Arc::clone(connection));
        let flushing = tokio::spawn(async move { connection.flushed().await });
        lock(&self.flushing).insert(id, Flushing(flushing));
    }

    /// Whether the guest was told that the connection is to be handed over.
    fn was_told(&self, id: ConnectionId) -> bool {
        let open = self.open.lock();
        open.get(&id)
            .is_some_and(|connection| connection.was_told())
    }

    /// Closes the connections that the host is to end. Their calls go on without them.
    fn cut(&self) {
        let mut asked = Vec::new();
        self.attention.take(&mut asked);
        for id in asked {
            let cut = {
                let open = self.open.lock();
                open.get(&id)
                    .and_then(|connection| connection.record().cut())
            };
            if let Some(cut) = cut {
                self.finish(id, Err(Failure::Cut(cut)));
            }
        }
    }

    /// Removes a connection from the driver's list, and closes it in order.
    fn finish(&self, id: ConnectionId, outcome: Result<(), Failure>) {
        lock(&self.flushing).remove(&id);
        let Some(admitted) = self.remove(id) else {
            return;
        };
        // The guest may still have resources of the connection, and tasks, which cannot
        // be cancelled (wasmtime #11833).
        admitted.connection.take_from_guest();
        // If an earlier version's output is still unsent, closing sends it.
        self.versions.finish_beside(admitted, outcome);
    }

    /// Ends every connection of an instance that died, but first refuses what it was
    /// deciding about, and offers what it had given up.
    fn fail_all(&self, failure: Failure, intake: &mut Intake) {
        lock(&self.undecided).refuse_all(&failure);
        lock(&self.flushing).clear();
        let given_up = lock(&self.given_up).take();
        save(&self.versions, &self.version, given_up, &failure, intake);
        let open: Vec<_> = self.open.lock().keys().copied().collect();
        let connections: Vec<_> = open.into_iter().filter_map(|id| self.remove(id)).collect();
        self.versions
            .instance_died(&self.version, connections.into_iter(), failure);
    }
}

impl Guest<'_> {
    /// Asks the guest to accept a connection. The inner error is its reason to refuse
    /// it.
    async fn accept(
        &self,
        id: ConnectionId,
        state: &ConnectionState,
    ) -> Result<Result<(), String>, Failure> {
        self.hand_over.accept_in(self.accessor, id, state).await
    }

    /// Asks the guest for what it knows. `None` if there is nothing to pass on.
    async fn save(&self) -> Result<Option<InstanceState>, Failure> {
        self.keeper.save_in(self.accessor).await
    }

    /// Asks the guest to give a connection up. `None` if it does not.
    async fn give_up(&self, id: ConnectionId) -> Result<Option<ConnectionState>, Failure> {
        self.hand_over.give_up_in(self.accessor, id).await
    }
}
