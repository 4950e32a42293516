//! How connections come to a shared instance: accepted ones, ones that another
//! version hands over, and ones that come back from where they were offered.

use crate::connection::ConnectionId;
use crate::guest::hand_over::ConnectionState;
use crate::version::offer::{Handed, Offer};
use crate::version::stay::Admitted;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{Instant, timeout_at};

/// The driver's end.
pub(crate) struct Intake {
    accepted: UnboundedReceiver<Admitted>,
    offers: UnboundedReceiver<Vec<Offer>>,
    /// From the time connections are offered until each of them is taken or has
    /// come back.
    returns: Option<UnboundedReceiver<Handed>>,
    gate: mpsc::Receiver<Infallible>,
    /// When the gate opens in any case.
    opens_by: Instant,
}

/// The other end. The intake is closed when it is dropped.
pub(crate) struct Entrance {
    accepted: UnboundedSender<Admitted>,
    offers: UnboundedSender<Vec<Offer>>,
}

/// While there is one, accepted connections wait.
///
/// The version before holds it until it has offered what it has, so that a room
/// has all its old members before it has a new one. One that is stuck holds it for
/// no longer than [`PATIENCE`].
#[derive(Clone)]
pub(crate) struct Gate {
    _sender: mpsc::Sender<Infallible>,
}

/// How long a gate may be shut: a turn that is under way, and the time to gather
/// who is to leave, with some to spare.
const PATIENCE: Duration = Duration::from_secs(3);

/// What comes.
pub(crate) enum Arrival {
    Accepted(Admitted),
    /// These belong together: all are accepted before one is served.
    Offers(Vec<Offer>),
    Returned(Handed),
    /// Every connection that was offered is taken or has returned.
    Settled,
}

/// What has come, when its connection is on the books of the instance: what
/// becomes of the instance becomes of it.
pub(crate) enum Registered {
    Accepted(ConnectionId),
    Offers(Vec<Offer>),
    Returned(ConnectionId, ConnectionState),
    Nothing,
}

impl Arrival {
    /// Puts a connection that is this version's already on the books.
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
                // The version that was offered it has dropped its resources.
                admitted.connection.renew();
                enter(admitted);
                Registered::Returned(id, state)
            }
            Self::Settled => Registered::Nothing,
        }
    }
}

/// Makes both ends, and the gate, which is shut.
pub(crate) fn open() -> (Entrance, Intake, Gate) {
    // Bounded by the permits.
    let (accepted, accepting) = mpsc::unbounded_channel();
    let (offers, offering) = mpsc::unbounded_channel();
    let (sender, gate) = mpsc::channel(1);
    let entrance = Entrance { accepted, offers };
    let intake = Intake {
        accepted: accepting,
        offers: offering,
        returns: None,
        gate,
        opens_by: Instant::now() + PATIENCE,
    };
    (entrance, intake, Gate { _sender: sender })
}

impl Entrance {
    pub(crate) fn accepted(&self, admitted: Admitted) -> Result<(), Admitted> {
        self.accepted.send(admitted).map_err(|refused| refused.0)
    }

    pub(crate) fn offers(&self, offers: Vec<Offer>) -> Result<(), Vec<Offer>> {
        self.offers.send(offers).map_err(|refused| refused.0)
    }
}

impl Intake {
    /// Waits for the next arrival. Nothing is lost if the wait is given up.
    ///
    /// `None` if none comes any more, unless connections are offered.
    pub(crate) async fn next(&mut self) -> Option<Arrival> {
        let Self {
            accepted,
            offers,
            returns,
            gate,
            opens_by,
        } = self;
        let accepting = async {
            if !gate.is_closed() && Instant::now() < *opens_by {
                // Nothing is ever sent: it ends when the last gate is gone.
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

    /// The next arrival that is not only news.
    pub(crate) async fn next_to_serve(&mut self) -> Option<Arrival> {
        loop {
            match self.next().await {
                Some(Arrival::Settled) => {}
                next => return next,
            }
        }
    }

    /// An accepted connection that is there already.
    pub(crate) fn try_accepted(&mut self) -> Option<Admitted> {
        // To be asked after one has come through, so the gate is open; but what is
        // offered goes first.
        if self.offers.is_empty() {
            self.accepted.try_recv().ok()
        } else {
            None
        }
    }

    /// Whether nobody comes in any more, but for those who return. Not while the
    /// gate is shut: the version before comes first, here and at the next one.
    fn is_closed(&self) -> bool {
        (self.gate.is_closed() || Instant::now() >= self.opens_by)
            && self.accepted.is_closed()
            && self.accepted.is_empty()
            && self.offers.is_closed()
            && self.offers.is_empty()
    }

    /// Whether connections can be offered: nobody comes in any more, and earlier
    /// offers are settled.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_closed() && self.returns.is_none()
    }

    /// Where connections that are offered now return to. To be called when it is
    /// finished only.
    pub(crate) fn home(&mut self) -> UnboundedSender<Handed> {
        let (home, returns) = mpsc::unbounded_channel();
        self.returns = Some(returns);
        home
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::stay::tests::admitted;

    /// A version that is stuck must not keep newcomers out for ever.
    #[tokio::test(start_paused = true)]
    async fn a_gate_that_nothing_opens_opens_by_itself() {
        let (entrance, mut intake, gate) = open();
        let begun = Instant::now();
        let (admitted, _peer) = admitted();
        assert!(entrance.accepted(admitted).is_ok());
        let arrival = intake.next().await;
        assert!(matches!(arrival, Some(Arrival::Accepted(_))));
        let waited = begun.elapsed();
        assert!((PATIENCE..PATIENCE * 2).contains(&waited), "{waited:?}");
        drop(gate);
    }
}
