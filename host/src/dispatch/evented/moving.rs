//! How connections come to an instance, and how they leave it for another version.

use super::entry::Entry;
use super::{Guest, Turns};
use crate::connection::ConnectionId;
use crate::dispatch::succession::pass_on;
use crate::dispatch::{offer, offer_together};
use crate::guest::failure::Failure;
use crate::guest::hand_over::ConnectionState;
use crate::guest::life_cycle;
use crate::guest::stdio::Known;
use crate::lifecycle::VersionNumber;
use crate::version::asking::Rolling;
use crate::version::entrance::{Arrival, Intake, Registered};
use crate::version::offer::{Batch, GATHER, Handed, note_staying};
use crate::version::stay::Admitted;
use crate::version::succession::{Departure, Verdict};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::Instant;

/// How many connections a group has at most, and how long it may take the guest to give
/// them up: about as long as it takes the next version to accept them. A connection waits
/// for both, and for a turn of each version.
const GROUP: usize = 64;
const SLICE: Duration = Duration::from_micros(500);

impl Turns<'_> {
    /// Puts an arrival on the driver's list, if it is this version's connection.
    pub(super) fn register(&mut self, arrival: Arrival) -> Registered {
        arrival.register(|admitted| {
            let connection = &admitted.connection;
            connection.set_attention(Arc::clone(&self.attention));
            self.open.insert(connection.id(), Entry::new(admitted));
        })
    }

    /// Calls `accept` for connections that were offered or came back; new ones need no
    /// call. The guest will be told of all that it serves from now on.
    pub(super) async fn welcome(
        &mut self,
        guest: &mut Guest,
        arrived: Registered,
    ) -> Result<(), Failure> {
        match arrived {
            Registered::Nothing => {}
            Registered::Accepted(id) => self.verify(guest, id).await?,
            Registered::Offers(offers) => {
                let mut batch = Batch::new(offers);
                while let Some(handed) = batch.next() {
                    let (id, state) = (handed.admitted.connection.id(), &handed.state);
                    let decision = accept(guest, id, state).await;
                    batch.decide(decision)?;
                }
                batch.accept().for_each(|admitted| self.enter(admitted));
            }
            Registered::Returned(id, state) => match accept(guest, id, &state).await? {
                Ok(()) => self.coming.push_back(id),
                Err(reason) => self.close(id, Err(Failure::RefusedBack(reason))),
            },
        }
        // The call may have changed something about other connections.
        self.settle_asked();
        Ok(())
    }

    /// Asks the guest whether a new peer may come in. It will be told of those that may;
    /// the others are closed.
    async fn verify(&mut self, guest: &mut Guest, id: ConnectionId) -> Result<(), Failure> {
        if self.version.verifies()
            && let Some(entry) = self.open.get(&id)
        {
            let known = Known::Connection(Arc::clone(entry.connection.record()));
            let (store, clock) = (&mut guest.store, &guest.clock);
            let verdict = {
                let call = life_cycle::verify(store, clock, guest.deadline, &entry.connection);
                guest.partner.during(Some(known), pin!(call)).await?
            };
            if let Err(reason) = verdict {
                self.close(id, Err(Failure::Unverified(reason)));
                return Ok(());
            }
        }
        self.coming.push_back(id);
        Ok(())
    }

    /// Puts a new connection on the driver's list, if the guest lets it in.
    pub(super) async fn enter_new(
        &mut self,
        guest: &mut Guest,
        admitted: Admitted,
    ) -> Result<(), Failure> {
        let id = admitted.connection.id();
        self.register(Arrival::Accepted(admitted));
        self.verify(guest, id).await
    }

    /// Puts a connection on the driver's list; the guest will be told of it.
    fn enter(&mut self, admitted: Admitted) {
        let id = admitted.connection.id();
        self.register(Arrival::Accepted(admitted));
        self.coming.push_back(id);
    }

    /// Asks the guest to give every connection up, and offers those that it gives up to
    /// the current version. They were asked to go to the version `to`, but it may be a
    /// later one. If they are independent of each other, begins to do that in groups.
    pub(super) async fn leave(
        &mut self,
        guest: &mut Guest,
        intake: &mut Intake,
        to: VersionNumber,
    ) -> Result<(), Failure> {
        self.offered_to = Some(to);
        // A further swap asks those anew whose turn has not come.
        self.rolling = None;
        if self.is_independent(guest).await? {
            self.rolling = Some(Rolling::new(self.version, to, self.asked_to_go(to)));
            self.rolls_next = true;
            // New connections miss nothing.
            self.version.release_next_gate();
            return Ok(());
        }
        let staying = self.give_up_all(guest, to).await?;
        self.stay(staying, to);
        offer_together(self.versions, self.version, self.given_up.take(), intake);
        // The calls may have changed something about the connections that stay.
        self.settle_asked();
        Ok(())
    }

    /// Whether the connections can leave one after another.
    async fn is_independent(&mut self, guest: &mut Guest) -> Result<bool, Failure> {
        if let Some(said) = self.is_independent {
            return Ok(said);
        }
        let (store, clock) = (&mut guest.store, &guest.clock);
        // What the instance knows is saved when it has no connections.
        let says =
            !self.keeps_state && life_cycle::independent(store, clock, guest.deadline).await?;
        Ok(*self.is_independent.insert(says))
    }

    /// Asks the guest to give up the next group of connections, and offers them. Turns
    /// follow, and the group after it leaves when these are settled.
    pub(super) async fn leave_next(
        &mut self,
        guest: &mut Guest,
        intake: &mut Intake,
    ) -> Result<(), Failure> {
        let Some(mut rolling) = self.rolling.take() else {
            return Ok(());
        };
        // The runtime looks at its sockets first: with two versions that keep each other busy
        // it would do so only now and then.
        yield_now().await;
        let to = rolling.to;
        let begun = Instant::now();
        let mut staying = Vec::new();
        for _ in 0..GROUP {
            let Some(id) = rolling.next() else {
                break;
            };
            let entry = self.open.get(&id);
            if !entry.is_some_and(|entry| entry.connection.may_go_to(Some(to))) {
                continue;
            }
            match give_up(guest, id).await? {
                Some(state) => self.give_up(guest, id, state).await?,
                None => staying.push(id),
            }
            if begun.elapsed() > SLICE {
                break;
            }
        }
        self.stay(staying, to);
        let given_up = self.given_up.take();
        if !given_up.is_empty() {
            offer(self.versions, given_up, &intake.home());
        }
        if !rolling.is_over() {
            self.rolling = Some(rolling);
        }
        self.settle_asked();
        Ok(())
    }

    /// Passes on what the instance knows, after it has given up its connections if they are
    /// to be handed over. They follow to the next version, or come back if there is none.
    pub(super) async fn depart(
        &mut self,
        guest: &mut Guest,
        intake: &mut Intake,
        departure: Departure,
    ) -> Result<(), Failure> {
        let to = departure.hands_over_to();
        let staying = match to {
            Some(to) => self.give_up_all(guest, to).await?,
            None => Vec::new(),
        };
        let state = guest.save().await?;
        match departure.settle(state).await {
            Verdict::Left => {
                if let Some(to) = to {
                    self.offered_to = Some(to);
                    self.stay(staying, to);
                    offer_together(self.versions, self.version, self.given_up.take(), intake);
                }
                pass_on(self.versions, intake);
            }
            Verdict::Stays => {
                for handed in self.given_up.take() {
                    let returned = self.register(Arrival::Returned(handed));
                    self.welcome(guest, returned).await?;
                }
            }
            Verdict::Ends => return Err(Failure::Aborted),
        }
        self.settle_asked();
        Ok(())
    }

    /// Asks the guest to give up every connection that may go to the version `to`. Returns
    /// those that it keeps.
    async fn give_up_all(
        &mut self,
        guest: &mut Guest,
        to: VersionNumber,
    ) -> Result<Vec<ConnectionId>, Failure> {
        let mut staying = Vec::new();
        let begun = Instant::now();
        for id in self.asked_to_go(to) {
            if begun.elapsed() > GATHER {
                // New connections of the next version do not wait for a slow guest any
                // longer.
                self.version.release_next_gate();
            }
            match give_up(guest, id).await? {
                Some(state) => self.give_up(guest, id, state).await?,
                None => staying.push(id),
            }
        }
        Ok(staying)
    }

    /// The connections that may go to the version `to`.
    fn asked_to_go(&self, to: VersionNumber) -> Vec<ConnectionId> {
        let asked = self.open.iter();
        let asked = asked.filter(|(_, entry)| entry.connection.may_go_to(Some(to)));
        asked.map(|(id, _)| *id).collect()
    }

    /// Counts connections that the guest keeps. They are not asked again to go to the
    /// version `to`.
    fn stay(&self, staying: Vec<ConnectionId>, to: VersionNumber) {
        for id in staying {
            if let Some(entry) = self.open.get(&id)
                && entry.connection.mark_refused(to)
            {
                self.version.count_staying();
            }
        }
    }

    /// Takes a connection, which the guest has given up, from the driver's list, to be
    /// offered. If its state cannot be handed over, the connection stays. Closes it as
    /// failed if the guest still holds a resource of it.
    async fn give_up(
        &mut self,
        guest: &mut Guest,
        id: ConnectionId,
        state: ConnectionState,
    ) -> Result<(), Failure> {
        self.watch_nothing(id);
        let Some(entry) = self.open.remove(&id) else {
            return Ok(());
        };
        let mut admitted = entry.into_admitted();
        if !admitted.connection.renew() {
            self.open.insert(id, Entry::new(admitted));
            self.close(id, Err(Failure::still_held()));
            return Ok(());
        }
        let handed = Handed {
            admitted,
            state,
            turn: None,
            room: None,
        };
        let limit = self.version.handler.limits().max_memory_bytes;
        if let Some((handed, reason)) = self.given_up.add(handed, limit) {
            let to = self.version.asks_for();
            note_staying(self.versions, &handed.admitted, to, &reason);
            let returned = self.register(Arrival::Returned(handed));
            self.welcome(guest, returned).await?;
        }
        Ok(())
    }
}

/// Asks the guest to accept a connection. The inner error is its reason to refuse it.
async fn accept(
    guest: &mut Guest,
    id: ConnectionId,
    state: &ConnectionState,
) -> Result<Result<(), String>, Failure> {
    let (store, clock) = (&mut guest.store, &guest.clock);
    let accepted = guest
        .hand_over
        .accept(store, clock, guest.deadline, id, state);
    accepted.await
}

/// Asks the guest to give a connection up. `None` if it does not.
async fn give_up(guest: &mut Guest, id: ConnectionId) -> Result<Option<ConnectionState>, Failure> {
    let (store, clock) = (&mut guest.store, &guest.clock);
    guest
        .hand_over
        .give_up(store, clock, guest.deadline, id)
        .await
}
