//! Connections that leave a shared instance for another version, together.

use super::{Guest, Serving};
use crate::dispatch::offer;
use crate::guest::failure::Failure;
use crate::guest::roster::Open;
use crate::service::hand_over::{GATHER, Handed};
use crate::service::intake::Intake;
use crate::sockets::connection::ConnectionId;
use std::collections::HashSet;
use std::future::pending;
use tokio::time::{Instant, sleep_until};

/// Calls that were told to return, and ones that have.
///
/// They leave together, so that nothing is said in a room that is half gone. Who
/// takes too long follows alone.
#[derive(Default)]
pub(super) struct Leaving {
    to: u32,
    told: HashSet<ConnectionId>,
    returned: Vec<ConnectionId>,
    until: Option<Instant>,
}

impl Leaving {
    /// The version that the calls were last told to leave for, or 0.
    pub(super) fn to(&self) -> u32 {
        self.to
    }

    /// All connections that may go to the version `to` are told to.
    pub(super) fn begin(&mut self, to: u32, open: &Open) {
        self.to = to;
        self.told = open
            .lock()
            .iter()
            .filter(|(_, connection)| connection.may_go_to(to))
            .map(|(id, _)| *id)
            .collect();
        self.until = Some(Instant::now() + GATHER);
    }

    /// A call has returned, whatever for.
    pub(super) fn returned(&mut self, id: ConnectionId) {
        self.told.remove(&id);
    }

    /// A call has returned for its connection to be handed over.
    pub(super) fn gather(&mut self, id: ConnectionId) {
        self.returned.push(id);
    }

    /// Ends when those who have not returned are not waited for any longer.
    pub(super) fn patience(&self) -> impl Future<Output = ()> + use<> {
        let until = self.until;
        async move {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        }
    }

    pub(super) fn lose_patience(&mut self) {
        self.until = None;
        self.told.clear();
    }

    /// Whether it is time for those who have returned to go, or for nobody if
    /// there is nobody.
    pub(super) fn is_gathered(&self) -> bool {
        self.told.is_empty() && (self.until.is_some() || !self.returned.is_empty())
    }

    /// Those who go now.
    pub(super) fn take(&mut self) -> Vec<ConnectionId> {
        self.until = None;
        std::mem::take(&mut self.returned)
    }
}

/// How often the event loop may go round until it has let go of a connection
/// whose resources the guest has dropped.
const ROUNDS: usize = 16;

impl Serving {
    /// Offers the connections that the guest gives up to the current version.
    pub(super) async fn leave(
        &self,
        guest: &Guest<'_>,
        ids: Vec<ConnectionId>,
        intake: &mut Intake,
    ) -> Result<(), Failure> {
        let mut handed = Vec::with_capacity(ids.len());
        let result = self.give_up_all(guest, ids, &mut handed).await;
        // What was given up before the guest died is safe.
        offer(&self.service, &self.version, handed, &intake.home());
        self.version.release_next_gate();
        result
    }

    async fn give_up_all(
        &self,
        guest: &Guest<'_>,
        ids: Vec<ConnectionId>,
        handed: &mut Vec<Handed>,
    ) -> Result<(), Failure> {
        for id in ids {
            let Some(state) = guest.give_up(id).await? else {
                self.finish(id, Ok(()));
                continue;
            };
            let Some(mut connection) = self.open.lock().remove(&id) else {
                continue;
            };
            let mut renewed = connection.renew();
            for _ in 0..ROUNDS {
                if renewed {
                    break;
                }
                tokio::task::yield_now().await;
                renewed = connection.renew();
            }
            if renewed {
                handed.push(Handed {
                    connection,
                    state,
                    turn: None,
                });
            } else {
                self.open.lock().insert(id, connection);
                self.finish(id, Err(Failure::still_held()));
            }
        }
        Ok(())
    }
}
