//! How connections leave a shared instance for another version, together.

use super::{Guest, Serving};
use crate::connection::{Connection, ConnectionId};
use crate::dispatch::offer_together;
use crate::dispatch::succession::pass_on;
use crate::guest::failure::Failure;
use crate::guest::hand_over::ConnectionState;
use crate::guest::life_cycle;
use crate::lifecycle::VersionNumber;
use crate::sync::lock;
use crate::version::asking::Rolling;
use crate::version::entrance::{Arrival, Intake};
use crate::version::offer::{self, GATHER, Handed};
use crate::version::succession::{Departure, Verdict};
use std::collections::HashSet;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The calls that were told to return, and those that have returned.
///
/// Their connections are handed over as one batch, so that no message is lost to
/// members that have already moved. A call that does not return within [`GATHER`] is
/// handed over later, by itself.
///
/// At rest, no call is told. From there to gathering, by [`begin`](Self::begin). From
/// there to gathered, when the last awaited call has returned, or by
/// [`lose_patience`](Self::lose_patience). From there to rest, by [`take`](Self::take).
/// A call that was told and returns only at rest is gathered at once. If the connections are
/// independent of each other, that happens for each group of them, and a group is waited for
/// [`PATIENCE`].
#[derive(Default)]
pub(super) struct Leaving {
    /// The version that the calls were last told to leave for. `None` before that.
    to: Option<VersionNumber>,
    /// What is waited for. `Some` from [`begin`](Self::begin) to [`take`](Self::take).
    gathering: Option<Gathering>,
    /// The connections whose calls have returned, and that are not taken yet.
    returned: Vec<ConnectionId>,
}

/// The calls that are waited for.
struct Gathering {
    /// The connections whose calls have not returned.
    awaited: HashSet<ConnectionId>,
    /// When they are not waited for any longer.
    until: Instant,
}

impl Leaving {
    /// The version that the calls were last told to leave for. `None` before that.
    pub(super) fn to(&self) -> Option<VersionNumber> {
        self.to
    }

    /// Notes that the calls of these connections are told to leave for the version
    /// `to`, and are waited for that long. Some may have been told before, and may have
    /// returned.
    pub(super) fn begin(
        &mut self,
        to: VersionNumber,
        told: impl Iterator<Item = ConnectionId>,
        patience: Duration,
    ) {
        self.to = Some(to);
        let until = match &self.gathering {
            // A further swap must not prolong the wait of those that have returned.
            Some(gathering) => gathering.until,
            None => Instant::now() + patience,
        };
        let returned: HashSet<_> = self.returned.iter().collect();
        let awaited = told.filter(|id| !returned.contains(id)).collect();
        self.gathering = Some(Gathering { awaited, until });
    }

    /// Notes that the calls are told to leave for the version `to` in groups.
    pub(super) fn begin_groups(&mut self, to: VersionNumber) {
        self.to = Some(to);
    }

    /// Whether no call is waited for, and none has returned.
    pub(super) fn is_at_rest(&self) -> bool {
        self.gathering.is_none() && self.returned.is_empty()
    }

    /// Begins without telling anybody: no connection is to be handed over.
    pub(super) fn begin_alone(&mut self) {
        self.gathering = Some(Gathering {
            awaited: HashSet::new(),
            until: Instant::now(),
        });
    }

    /// The version that the calls were told to leave for did not come.
    pub(super) fn take_back(&mut self, before: Option<VersionNumber>) {
        self.to = before;
    }

    /// Notes that a call has returned. `leaves` says whether its connection is to be
    /// handed over.
    pub(super) fn returned(&mut self, id: ConnectionId, leaves: bool) {
        if let Some(gathering) = &mut self.gathering {
            gathering.awaited.remove(&id);
        }
        if leaves {
            self.returned.push(id);
        }
    }

    /// Waits until calls that have not returned are not waited for any longer. Never
    /// returns if none is waited for. Cancel-safe.
    ///
    /// The event loop of the store polls this. It may not fire while a guest blocks the
    /// loop (wasmtime #11869, #11870); then the gate of the next version opens after
    /// its own limit.
    pub(super) fn patience(&self) -> impl Future<Output = ()> + use<> {
        let until = self.gathering.as_ref().map(|gathering| gathering.until);
        async move {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        }
    }

    /// Stops waiting for calls that have not returned.
    pub(super) fn lose_patience(&mut self) {
        if let Some(gathering) = &mut self.gathering {
            gathering.awaited.clear();
        }
    }

    /// Whether it is time to hand over. There may be no connection to hand over; the
    /// next version waits for that as well.
    pub(super) fn is_gathered(&self) -> bool {
        match &self.gathering {
            Some(gathering) => gathering.awaited.is_empty(),
            None => !self.returned.is_empty(),
        }
    }

    /// Takes the connections to hand over now.
    pub(super) fn take(&mut self) -> Vec<ConnectionId> {
        self.gathering = None;
        std::mem::take(&mut self.returned)
    }
}

/// How many rounds of the event loop to wait for. When the guest has dropped its
/// resources of a connection, the loop may need some rounds to drop its own references.
const ROUNDS: usize = 16;

/// How many calls are told at a time, if the connections are independent of each other.
const GROUP: usize = 16;

/// How long such a group is waited for. One that does not return in time is handed over
/// later.
const PATIENCE: Duration = Duration::from_millis(10);

impl Serving {
    /// Tells all calls to leave for the version `to`.
    pub(super) fn tell(&self, leaving: &mut Leaving, to: VersionNumber) {
        leaving.begin(to, self.asked_to_go(to).into_iter(), GATHER);
        self.notify(Some(to));
    }

    /// Begins to tell the calls, in groups, to leave for the version `to`.
    pub(super) fn roll(&self, leaving: &mut Leaving, to: VersionNumber) -> Rolling<'_> {
        leaving.begin_groups(to);
        // A connection that comes home from now on is not in a group.
        *lock(&self.told) = Some(to);
        // New connections of the next version miss nothing.
        self.version.release_next_gate();
        Rolling::new(&self.version, to, self.asked_to_go(to))
    }

    /// Tells the next group, and returns those whose turn has not come. `None` if all have
    /// been told.
    pub(super) fn tell_next<'a>(
        &self,
        leaving: &mut Leaving,
        mut rolling: Rolling<'a>,
    ) -> Option<Rolling<'a>> {
        let to = rolling.to;
        let mut group = Vec::with_capacity(GROUP);
        let open = self.open.lock();
        while group.len() < GROUP
            && let Some(id) = rolling.next()
        {
            // It may have ended meanwhile.
            if let Some(connection) = open.get(&id).filter(|it| it.may_go_to(Some(to))) {
                connection.notice().give(Some(to));
                group.push(id);
            }
        }
        drop(open);
        if !group.is_empty() {
            leaving.begin(to, group.into_iter(), PATIENCE);
        }
        (!rolling.is_over()).then_some(rolling)
    }

    /// The connections that may go to the version `to`.
    fn asked_to_go(&self, to: VersionNumber) -> Vec<ConnectionId> {
        let open = self.open.lock();
        let asked = open.values().filter(|it| it.may_go_to(Some(to)));
        asked.map(|it| it.id()).collect()
    }

    /// Whether the connections can leave one after another.
    pub(super) async fn is_independent(&self, guest: &Guest<'_>) -> Result<bool, Failure> {
        // What the instance knows is saved when it has no connections.
        if self.version.handler.keeps_state() {
            return Ok(false);
        }
        let asking = life_cycle::independent_in(guest.accessor);
        self.watched.hold(pin!(asking)).await
    }

    /// Asks the guest to give connections up, and offers those that it gives up to the
    /// current version. Closes the others. Returns those that stay because their state
    /// cannot be handed over, to be served again.
    pub(super) async fn leave(
        &self,
        guest: &Guest<'_>,
        ids: Vec<ConnectionId>,
        intake: &mut Intake,
    ) -> Result<Vec<ConnectionId>, Failure> {
        let mut staying = self.give_up_all(guest, ids).await?;
        if self.versions.is_current(&self.version) {
            // The version that they were to go to did not come.
            staying.extend(self.take_back(guest).await?);
        } else {
            let given_up = lock(&self.given_up).take();
            offer_together(&self.versions, &self.version, given_up, intake);
        }
        Ok(staying)
    }

    /// Passes on what the instance knows, after it has given up the connections whose calls
    /// have returned. They follow to the next version, or come back if there is none.
    /// Returns those that are to be served again.
    pub(super) async fn depart(
        &self,
        guest: &Guest<'_>,
        leaving: &mut Leaving,
        intake: &mut Intake,
        departure: Departure,
    ) -> Result<Vec<ConnectionId>, Failure> {
        let mut staying = self.give_up_all(guest, leaving.take()).await?;
        let state = self.watched.hold(pin!(guest.save())).await?;
        match departure.settle(state).await {
            Verdict::Left => {
                let given_up = lock(&self.given_up).take();
                offer_together(&self.versions, &self.version, given_up, intake);
                pass_on(&self.versions, intake);
            }
            Verdict::Stays => {
                let asked = self.version.asks_for();
                leaving.take_back(asked);
                self.notify(asked);
                staying.extend(self.take_back(guest).await?);
            }
            Verdict::Ends => return Err(Failure::Aborted),
        }
        Ok(staying)
    }

    /// Asks the guest to give connections up. Those that it does not give up are closed.
    /// Returns those whose state cannot be handed over.
    async fn give_up_all(
        &self,
        guest: &Guest<'_>,
        ids: Vec<ConnectionId>,
    ) -> Result<Vec<ConnectionId>, Failure> {
        let mut staying = Vec::new();
        for id in ids {
            match self.watched.hold(pin!(guest.give_up(id))).await? {
                Some(state) => staying.extend(self.give_up(guest, id, state).await?),
                None => self.finish(id, Ok(())),
            }
        }
        Ok(staying)
    }

    /// Gives the guest back what it has given up. Returns those that are to be served
    /// again.
    async fn take_back(&self, guest: &Guest<'_>) -> Result<Vec<ConnectionId>, Failure> {
        let given_up = lock(&self.given_up).take();
        let mut served = Vec::with_capacity(given_up.len());
        for handed in given_up {
            let returned = self.register(Arrival::Returned(handed));
            served.extend(self.welcome(guest, returned).await?);
        }
        Ok(served)
    }

    /// Takes a connection, which the guest has given up, from the driver's list, to be
    /// offered. Returns the connection if its state cannot be handed over. Closes it as
    /// failed if the guest still holds a resource of it.
    async fn give_up(
        &self,
        guest: &Guest<'_>,
        id: ConnectionId,
        state: ConnectionState,
    ) -> Result<Vec<ConnectionId>, Failure> {
        if !self.renew_when_free(id).await {
            self.finish(id, Err(Failure::still_held()));
            return Ok(Vec::new());
        }
        let Some(admitted) = self.remove(id) else {
            return Ok(Vec::new());
        };
        let handed = Handed {
            admitted,
            state,
            turn: None,
            room: None,
        };
        let limit = self.version.handler.limits().max_memory_bytes;
        let added = lock(&self.given_up).add(handed, limit);
        let Some((handed, reason)) = added else {
            return Ok(Vec::new());
        };
        let to = self.version.asks_for();
        offer::note_staying(&self.versions, &handed.admitted, to, &reason);
        let returned = self.register(Arrival::Returned(handed));
        self.welcome(guest, returned).await
    }

    /// Waits until neither the guest nor the event loop has a reference to the
    /// connection, and then renews it. Returns false if that takes too long. True also
    /// if the connection is gone.
    async fn renew_when_free(&self, id: ConnectionId) -> bool {
        lock(&self.flushing).remove(&id);
        for _ in 0..ROUNDS {
            let renewed = self.open.lock().get_mut(&id).map(Connection::renew);
            if renewed != Some(false) {
                return true;
            }
            tokio::task::yield_now().await;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u32) -> VersionNumber {
        (1..number).fold(VersionNumber::FIRST, |number, _| number.next())
    }

    #[test]
    fn they_leave_together() {
        let mut leaving = Leaving::default();
        assert!(!leaving.is_gathered());
        leaving.begin(version(2), 1..=3, GATHER);
        assert_eq!(leaving.to(), Some(version(2)));
        leaving.returned(1, true);
        leaving.returned(2, false);
        assert!(!leaving.is_gathered(), "the third is awaited");
        leaving.returned(3, true);
        assert!(leaving.is_gathered());
        assert_eq!(leaving.take(), [1, 3]);
        assert!(!leaving.is_gathered());
    }

    #[test]
    fn who_takes_too_long_follows_alone() {
        let mut leaving = Leaving::default();
        leaving.begin(version(2), 1..=2, GATHER);
        leaving.lose_patience();
        assert!(leaving.is_gathered(), "if nobody has returned, too");
        assert!(leaving.take().is_empty());
        leaving.returned(2, true);
        assert!(leaving.is_gathered());
        assert_eq!(leaving.take(), [2]);
    }

    #[test]
    fn another_swap_awaits_nobody_twice_and_does_not_prolong() {
        let mut leaving = Leaving::default();
        leaving.begin(version(2), 1..=2, GATHER);
        let until = |leaving: &Leaving| leaving.gathering.as_ref().unwrap().until;
        let first = until(&leaving);
        leaving.returned(1, true);
        leaving.begin(version(3), 1..=2, GATHER);
        assert_eq!((leaving.to(), until(&leaving)), (Some(version(3)), first));
        leaving.returned(2, true);
        assert!(leaving.is_gathered());
        assert_eq!(leaving.take(), [1, 2]);
    }

    #[test]
    fn nobody_is_soon_gathered() {
        let mut leaving = Leaving::default();
        leaving.begin(version(2), std::iter::empty(), GATHER);
        assert!(leaving.is_gathered());
        assert!(leaving.take().is_empty());
        assert!(!leaving.is_gathered());
    }
}
