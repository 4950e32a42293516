//! Connections that leave a shared instance for another version, together.

use super::{Guest, Serving};
use crate::dispatch::offer;
use crate::guest::failure::Failure;
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
    /// While those who have returned wait for the others.
    gathering: Option<Gathering>,
    returned: Vec<ConnectionId>,
}

struct Gathering {
    /// Those who have not returned.
    awaited: HashSet<ConnectionId>,
    until: Instant,
}

impl Leaving {
    /// The version that the calls were last told to leave for, or 0.
    pub(super) fn to(&self) -> u32 {
        self.to
    }

    /// The calls of these connections are told to leave for the version `to`.
    /// Some may have been told before, and have returned.
    pub(super) fn begin(&mut self, to: u32, told: impl Iterator<Item = ConnectionId>) {
        self.to = to;
        let until = match &self.gathering {
            // A swap after the other must not keep those who wait.
            Some(gathering) => gathering.until,
            None => Instant::now() + GATHER,
        };
        let returned: HashSet<_> = self.returned.iter().collect();
        let awaited = told.filter(|id| !returned.contains(id)).collect();
        self.gathering = Some(Gathering { awaited, until });
    }

    /// A call has returned; `leaves` says whether for its connection to be handed
    /// over.
    pub(super) fn returned(&mut self, id: ConnectionId, leaves: bool) {
        if let Some(gathering) = &mut self.gathering {
            gathering.awaited.remove(&id);
        }
        if leaves {
            self.returned.push(id);
        }
    }

    /// Ends when those who have not returned are not waited for any longer.
    pub(super) fn patience(&self) -> impl Future<Output = ()> + use<> {
        let until = self.gathering.as_ref().map(|gathering| gathering.until);
        async move {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        }
    }

    pub(super) fn lose_patience(&mut self) {
        if let Some(gathering) = &mut self.gathering {
            gathering.awaited.clear();
        }
    }

    /// Whether it is time for those who have returned to go. There may be nobody;
    /// the version after waits for that as well.
    pub(super) fn is_gathered(&self) -> bool {
        match &self.gathering {
            Some(gathering) => gathering.awaited.is_empty(),
            None => !self.returned.is_empty(),
        }
    }

    /// Those who go now.
    pub(super) fn take(&mut self) -> Vec<ConnectionId> {
        self.gathering = None;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_leave_together() {
        let mut leaving = Leaving::default();
        assert!(!leaving.is_gathered());
        leaving.begin(2, 1..=3);
        assert_eq!(leaving.to(), 2);
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
        leaving.begin(2, 1..=2);
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
        leaving.begin(2, 1..=2);
        let until = |leaving: &Leaving| leaving.gathering.as_ref().unwrap().until;
        let first = until(&leaving);
        leaving.returned(1, true);
        leaving.begin(3, 1..=2);
        assert_eq!((leaving.to(), until(&leaving)), (3, first));
        leaving.returned(2, true);
        assert!(leaving.is_gathered());
        assert_eq!(leaving.take(), [1, 2]);
    }

    #[test]
    fn nobody_is_soon_gathered() {
        let mut leaving = Leaving::default();
        leaving.begin(2, std::iter::empty());
        assert!(leaving.is_gathered());
        assert!(leaving.take().is_empty());
        assert!(!leaving.is_gathered());
    }
}
