//! How connections come to a shared instance: accepted ones, ones that another version
//! offers, and ones that come back because no version took them.
//!
//! The sending end is dropped when the version is retired, the receiving end when its
//! driver has ended. This module serves nothing; the drivers are in `dispatch`.

use crate::connection::{Connection, ConnectionId};
use crate::guest::hand_over::ConnectionState;
use crate::sync::lock;
use crate::version::Version;
use crate::version::errands::Ticks;
use crate::version::offer::{Handed, Offer};
use crate::version::stay::{Admitted, Stay};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout_at};

/// The receiving end, which the driver of the shared instance has.
pub(crate) struct Intake {
    /// The ticks of the driver's event loop.
    pub(crate) ticks: Arc<Ticks>,
    accepted: UnboundedReceiver<Admitted>,
    offers: UnboundedReceiver<Vec<Offer>>,
    /// `Some` from when connections are offered until each of them is taken or has come
    /// back.
    returns: Option<UnboundedReceiver<Handed>>,
    /// Closed when nothing holds the gate any more.
    gate: mpsc::Receiver<Infallible>,
    /// When the gate opens even if something still holds it.
    opens_by: Instant,
}

/// The sending ends, which the version has. The intakes are closed when this is dropped.
pub(crate) struct Entrance {
    /// One per event loop.
    lanes: Vec<Lane>,
    /// Counts what has come in: lanes take turns.
    count: AtomicUsize,
}

/// The sending end of one intake.
struct Lane {
    accepted: UnboundedSender<Admitted>,
    offers: UnboundedSender<Vec<Offer>>,
}

/// Keeps accepted connections waiting for as long as a clone of it exists.
///
/// The version before holds a clone until it has offered its connections. So a room has
/// all its old members before its first new one. If that version is stuck, the gate
/// opens after [`PATIENCE`].
#[derive(Clone)]
pub(crate) struct Gate {
    _senders: Vec<mpsc::Sender<Infallible>>,
}

/// How long a gate may be shut: as long as a turn that is under way and then gathering
/// ([`GATHER`](super::offer::GATHER)) take, and some more.
const PATIENCE: Duration = Duration::from_secs(3);

/// What comes to a shared instance. From here to [`Registered`], by
/// [`register`](Self::register).
pub(crate) enum Arrival {
    /// A new connection. It is counted on the version already. From here to
    /// `Registered::Accepted`.
    Accepted(Admitted),
    /// Offers that belong together: all are decided about before one of them is served.
    /// From here to `Registered::Offers`.
    Offers(Vec<Offer>),
    /// A connection that this version gave up, and that no version took. From here to
    /// `Registered::Returned`.
    Returned(Handed),
    /// Every connection that was offered is taken or has come back, so others can be
    /// offered. From here to `Registered::Nothing`.
    Settled,
}

/// An arrival after its connection was added to the driver's list. If the instance
/// dies from now on, the connection fails with it. Connections that are only offered
/// are not on the list yet.
pub(crate) enum Registered {
    /// From here the guest is told of the connection, and serves it.
    Accepted(ConnectionId),
    /// The guest decides about each offer, in a `Batch`. From here to accepted, which
    /// puts the connection on the list, or to refused.
    Offers(Vec<Offer>),
    /// The guest gets its own state back. From here it serves the connection again; or
    /// it refuses the state, and the connection is closed as failed.
    Returned(ConnectionId, ConnectionState),
    /// Nothing is to be done.
    Nothing,
}

impl Arrival {
    /// Calls `enter` with a connection that counts on this version already, to put it
    /// on the driver's list.
    pub(crate) fn register(self, enter: impl FnOnce(Admitted)) -> Registered {
        match self {
            Self::Accepted(admitted) => {
                let id = admitted.connection.id();
                enter(admitted);
                Registered::Accepted(id)
            }
            Self::Offers(offers) => Registered::Offers(offers),
            Self::Returned(Handed {
                mut admitted,
                state,
                ..
            }) => {
                let id = admitted.connection.id();
                // The version that it was offered to has dropped its resources.
                admitted.connection.renew();
                enter(admitted);
                Registered::Returned(id, state)
            }
            Self::Settled => Registered::Nothing,
        }
    }
}

/// Makes both ends for so many event loops, and the gate, which is shut. `begin_ticks` is
/// called for each event loop.
fn open(loops: usize, begin_ticks: impl Fn() -> Arc<Ticks>) -> (Entrance, Vec<Intake>, Gate) {
    let mut lanes = Vec::with_capacity(loops);
    let mut senders = Vec::with_capacity(loops);
    let mut intakes = Vec::with_capacity(loops);
    for _ in 0..loops {
        // Bounded by the permits.
        let (accepted, accepting) = mpsc::unbounded_channel();
        let (offers, offering) = mpsc::unbounded_channel();
        let (sender, gate) = mpsc::channel(1);
        lanes.push(Lane { accepted, offers });
        senders.push(sender);
        intakes.push(Intake {
            ticks: begin_ticks(),
            accepted: accepting,
            offers: offering,
            returns: None,
            gate,
            opens_by: Instant::now() + PATIENCE,
        });
    }
    let count = AtomicUsize::new(0);
    let gate = Gate { _senders: senders };
    (Entrance { lanes, count }, intakes, gate)
}

impl Entrance {
    /// The lane whose turn it is. `None` if there are no lanes.
    fn next(&self) -> Option<&Lane> {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        self.lanes.get(count.checked_rem(self.lanes.len())?)
    }

    /// Queues an accepted connection. Gives it back if the intake is gone.
    pub(crate) fn accepted(&self, admitted: Admitted) -> Result<(), Admitted> {
        match self.next() {
            Some(lane) => lane.accepted.send(admitted).map_err(|refused| refused.0),
            None => Err(admitted),
        }
    }

    /// Queues offers that belong together, or spreads them over the lanes if there are
    /// several: then they are independent of each other. Gives back those whose intake is
    /// gone.
    pub(crate) fn offers(&self, mut offers: Vec<Offer>) -> Result<(), Vec<Offer>> {
        let share = offers.len().div_ceil(self.lanes.len().max(1));
        let mut refused = Vec::new();
        for _ in &self.lanes {
            let rest = offers.split_off(share.min(offers.len()));
            let part = std::mem::replace(&mut offers, rest);
            if part.is_empty() {
                break;
            }
            match self.next() {
                Some(lane) => {
                    if let Err(gone) = lane.offers.send(part) {
                        refused.extend(gone.0);
                    }
                }
                None => refused.extend(part),
            }
        }
        refused.extend(offers);
        if refused.is_empty() {
            Ok(())
        } else {
            Err(refused)
        }
    }
}

impl Intake {
    /// Waits for the next arrival. `None` if the version takes no more connections and
    /// has none on offer.
    ///
    /// Cancel-safe: no arrival is lost if the wait is given up.
    pub(crate) async fn next(&mut self) -> Option<Arrival> {
        let Self {
            ticks: _,
            accepted,
            offers,
            returns,
            gate,
            opens_by,
        } = self;
        let accepting = async {
            if !gate.is_closed() && Instant::now() < *opens_by {
                // Nothing is ever sent: the wait ends when the last gate is dropped.
                let _ = timeout_at(*opens_by, gate.recv()).await;
            }
            accepted.recv().await
        };
        let returning = async {
            let arrival = match returns.as_mut()?.recv().await {
                Some(handed) => Arrival::Returned(handed),
                None => {
                    *returns = None;
                    Arrival::Settled
                }
            };
            Some(arrival)
        };
        tokio::select! {
            biased;
            Some(arrival) = returning => Some(arrival),
            Some(offers) = offers.recv() => Some(Arrival::Offers(offers)),
            Some(admitted) = accepting => Some(Arrival::Accepted(admitted)),
            else => None,
        }
    }

    /// Waits for the next arrival with a connection. `None` as for
    /// [`next`](Self::next).
    pub(crate) async fn next_to_serve(&mut self) -> Option<Arrival> {
        loop {
            match self.next().await {
                Some(Arrival::Settled) => {}
                next => return next,
            }
        }
    }

    /// Returns an accepted connection that is there already. `None` if there is none,
    /// or if offers wait, which go first.
    pub(crate) fn try_accepted(&mut self) -> Option<Admitted> {
        // Called after an accepted connection has come through, so the gate is open.
        if self.offers.is_empty() {
            self.accepted.try_recv().ok()
        } else {
            None
        }
    }

    /// Whether neither accepted nor offered connections can come any more. False while
    /// the gate is shut: the connections of the version before come first, also at a
    /// further swap.
    fn is_closed(&self) -> bool {
        (self.gate.is_closed() || Instant::now() >= self.opens_by)
            && self.accepted.is_closed()
            && self.accepted.is_empty()
            && self.offers.is_closed()
            && self.offers.is_empty()
    }

    /// Whether connections can be offered now: no more can come, and earlier offers are
    /// settled.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_closed() && self.is_settled()
    }

    /// Whether every connection that was offered is taken or has come back.
    pub(crate) fn is_settled(&self) -> bool {
        self.returns.is_none()
    }

    /// Takes what has come and that the driver has not seen, when the version is retired:
    /// accepted connections, which are no longer counted on it, and offers.
    pub(crate) fn take_unseen(&mut self) -> (Vec<Arc<Connection>>, Vec<Vec<Offer>>) {
        let accepted = std::iter::from_fn(|| self.accepted.try_recv().ok());
        let accepted = accepted.map(|Admitted { connection, stay }| {
            stay.withdraw();
            connection
        });
        let accepted = accepted.collect();
        let offers = std::iter::from_fn(|| self.offers.try_recv().ok()).collect();
        (accepted, offers)
    }

    /// Returns the channel by which connections that are offered now come back. Called
    /// only when [`is_settled`](Self::is_settled).
    pub(crate) fn home(&mut self) -> UnboundedSender<Handed> {
        let (home, returns) = mpsc::unbounded_channel();
        self.returns = Some(returns);
        home
    }
}

impl Version {
    /// Opens the entrance of the version's shared instances, one per event loop. Its gate
    /// is shut.
    pub(crate) fn open_intakes(&self, loops: usize) -> Vec<Intake> {
        let (entrance, intakes, gate) = open(loops, || self.begin_ticks());
        *lock(&self.entrance) = Some(entrance);
        *lock(&self.gate) = Some(gate);
        intakes
    }

    /// Lets accepted connections in, unless the version before holds the gate too.
    pub(crate) fn open_gate(&self) {
        *lock(&self.gate) = None;
    }

    /// Holds the gate of `next` until this version has offered its connections or has
    /// ended.
    pub(crate) fn hold_gate_of(&self, next: &Self) {
        let gate = lock(&next.gate).clone();
        *lock(&self.next_gate) = gate;
    }

    /// Releases the gate of the next version.
    pub(crate) fn release_next_gate(&self) {
        *lock(&self.next_gate) = None;
    }

    /// Counts a connection on this version, and queues it for the shared instance.
    /// Gives it back if the version takes no more.
    pub(crate) fn queue(
        self: &Arc<Self>,
        connection: Arc<Connection>,
    ) -> Result<(), Arc<Connection>> {
        let entrance = lock(&self.entrance);
        let Some(entrance) = &*entrance else {
            return Err(connection);
        };
        let stay = Stay::new(self);
        connection.record().set_version(self.number);
        let admitted = Admitted { connection, stay };
        entrance.accepted(admitted).map_err(|refused| {
            refused.stay.withdraw();
            refused.connection
        })
    }

    /// Queues offers for the shared instance. Gives them back if the version takes no
    /// more.
    pub(crate) fn queue_offers(&self, offers: Vec<Offer>) -> Result<(), Vec<Offer>> {
        match &*lock(&self.entrance) {
            Some(entrance) => entrance.offers(offers),
            None => Err(offers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::stay::tests::admitted;

    /// A version that is stuck must not keep new connections waiting forever.
    #[tokio::test(start_paused = true)]
    async fn a_gate_that_nothing_opens_opens_by_itself() {
        let (entrance, mut intakes, gate) = open(1, Arc::default);
        let intake = &mut intakes[0];
        let begun = Instant::now();
        let (admitted, _peer) = admitted();
        assert!(entrance.accepted(admitted).is_ok());
        let arrival = intake.next().await;
        assert!(matches!(arrival, Some(Arrival::Accepted(_))));
        let waited = begun.elapsed();
        assert!((PATIENCE..PATIENCE * 2).contains(&waited), "{waited:?}");
        drop(gate);
    }

    #[tokio::test]
    async fn connections_go_to_the_loops_in_turn() {
        let (entrance, mut intakes, gate) = open(2, Arc::default);
        drop(gate);
        let mut peers = Vec::new();
        for _ in 0..4 {
            let (admitted, peer) = admitted();
            peers.push(peer);
            assert!(entrance.accepted(admitted).is_ok());
        }
        for intake in &mut intakes {
            assert!(matches!(intake.next().await, Some(Arrival::Accepted(_))));
            assert!(intake.try_accepted().is_some());
            assert!(intake.try_accepted().is_none());
        }
        // One whose intake is gone comes back.
        intakes.pop();
        let sent = [(); 2].map(|()| entrance.accepted(admitted().0).is_ok());
        assert_eq!(sent, [true, false]);
    }
}
