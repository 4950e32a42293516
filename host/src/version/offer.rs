//! A connection on its way from one version to another.
//!
//! One type holds the connection in each state, so it is in exactly one place at any
//! time:
//!
//! ```text
//! new       Connection, in the closure of the accept loop
//!  |        dropped: closed, and no version counts it
//!  v  Version::admit, Version::queue
//! in        Admitted: in an intake, a driver's list, or a task <-------------+
//!  |        dropped: closed, counted as failed by a panic                    |
//!  v  Version::ask, and the guest learns of it                               |
//! told      Admitted, as before                                              |
//!  |        (`evented` skips this: the call of hand-over tells the guest)    |
//!  |        no state: closed, but `evented` keeps it; still held: failed     |
//!  v  the guest's hand-over returns a state, Connection::renew succeeds      |
//! given up  Handed; in GivenUp, if the instance is shared                    |
//!  |        dropped: as before; but if the guest dies, it is offered         |
//!  v  dispatch::offer, to the version that is current                        |
//! offered   Offer; in a Batch, while a shared instance decides               |
//!  |  |     dropped, or the guest dies: refused                              |
//!  |  v  Offer::refuse                                                       |
//!  |  refused  Handed, in the channel to its own version                     |
//!  |  |        its version is gone: closed, counted as failed (NotTakenOver)     |
//!  |  v  its version receives it, Connection::renew                          |
//!  |  home     Admitted, as before; its guest gets its own state             |
//!  |  |        the guest refuses: closed, counted as failed (RefusedBack)        |
//!  |  +---  the guest accepts  ----------------------------------------------+
//!  v  Offer::accept                                                          |
//! accepted  Admitted, counted on the new version  ---------------------------+
//! ```
//!
//! "Dropped" is what a panic of the holder does too. A connection on the list of a
//! shared instance's driver fails with the instance.

use crate::guest::failure::Failure;
use crate::guest::hand_over::{ConnectionState, MAX_STATE};
use crate::lifecycle::VersionNumber;
use crate::text::one_line;
use crate::version::Version;
use crate::version::stay::Admitted;
use crate::version::versions::Versions;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a shared instance waits for its calls to return, before it hands over the
/// connections whose calls have. The contract says so.
pub(crate) const GATHER: Duration = Duration::from_secs(1);

/// A connection that a version has given up, with its state. No guest has access to it.
///
/// From here to [`Offer`]; or straight home, if the state cannot be handed over.
pub(crate) struct Handed {
    /// Counted on the version that has given the connection up, until another version
    /// accepts it.
    pub(crate) admitted: Admitted,
    /// What the handler knows of the connection.
    pub(crate) state: ConnectionState,
    /// The connection's turn under `sequential`: while it exists, no other connection
    /// is delivered.
    pub(crate) turn: Option<OwnedSemaphorePermit>,
    /// The state's part of [`STATES`]. `None` for a shared instance.
    pub(crate) room: Option<Room>,
}

/// How many bytes the states of a service's isolated instances may have together: as
/// much as 64 states of the largest size. An instance that is to give a state up waits
/// until there is room. Shared instances have a limit of their own, see [`GivenUp`].
pub(crate) const STATES: usize = 64 * MAX_STATE;

/// Room for one state. Dropping it gives the room back.
pub(crate) struct Room(OwnedSemaphorePermit);

impl Room {
    /// Waits for the room of the largest state, because the size is not known yet.
    /// Cancel-safe.
    pub(crate) async fn reserve(states: &Arc<Semaphore>) -> Option<Self> {
        // The semaphore is never closed.
        let most = u32::try_from(MAX_STATE).unwrap_or(u32::MAX);
        let permit = Arc::clone(states).acquire_many_owned(most).await.ok()?;
        Some(Self(permit))
    }

    /// Keeps the room of a state of `size` bytes, and gives the rest back.
    pub(crate) fn shrink(&mut self, size: usize) {
        let rest = self.0.num_permits().saturating_sub(size);
        drop(self.0.split(rest));
    }
}

/// A connection that is offered to a version.
///
/// From here to accepted, by [`accept`](Self::accept); or to refused, by
/// [`refuse`](Self::refuse) or when this is dropped; or back to [`Handed`], by
/// [`withdraw`](Self::withdraw), to be offered to a later version.
pub(crate) struct Offer {
    /// `None` after `accept` and `withdraw`.
    handed: Option<Handed>,
    /// Why the connection goes back, for the log.
    reason: String,
    versions: Arc<Versions>,
    /// The version that the connection is offered to.
    to: Arc<Version>,
    /// Where a refused connection goes.
    home: UnboundedSender<Handed>,
}

impl Offer {
    /// Offers a connection to the version `to`, which counts it as offered.
    pub(crate) fn new(
        versions: &Arc<Versions>,
        to: &Arc<Version>,
        handed: Handed,
        home: &UnboundedSender<Handed>,
    ) -> Self {
        to.count_offered();
        Self {
            handed: Some(handed),
            reason: "the instance that was to take it ended".to_owned(),
            versions: Arc::clone(versions),
            to: Arc::clone(to),
            home: home.clone(),
        }
    }

    /// The connection and its state. `None` only after they were taken out.
    pub(crate) fn handed(&self) -> Option<&Handed> {
        self.handed.as_ref()
    }

    /// Counts the connection on the new version, and as handed over on the old one.
    /// Returns it with its turn.
    pub(crate) fn accept(mut self) -> Option<(Admitted, Option<OwnedSemaphorePermit>)> {
        let Handed { admitted, turn, .. } = self.handed.take()?;
        let Admitted { connection, stay } = admitted;
        let from = Arc::clone(stay.version());
        let admitted = self.to.admit_offered(connection);
        stay.hand_over();
        tracing::debug!(
            service = &*self.versions.service,
            connection = admitted.connection.id(),
            from = from.number.get(),
            version = self.to.number.get(),
            "connection handed over"
        );
        self.versions.forget_if_ended(&from);
        Some((admitted, turn))
    }

    /// Refuses the connection: sends it home.
    pub(crate) fn refuse(mut self, reason: &str) {
        reason.clone_into(&mut self.reason);
    }

    /// Where the connection goes if it is refused.
    pub(crate) fn home(&self) -> UnboundedSender<Handed> {
        self.home.clone()
    }

    /// Takes the connection back before the version has seen the offer.
    pub(crate) fn withdraw(mut self) -> Option<Handed> {
        self.to.count_decided();
        self.versions.forget_if_ended(&self.to);
        self.handed.take()
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let Some(handed) = self.handed.take() else {
            return;
        };
        self.to.count_refused();
        send_home(
            &self.versions,
            handed,
            &self.home,
            Some(self.to.number),
            &self.reason,
        );
        self.versions.forget_if_ended(&self.to);
    }
}

/// Sends a connection home. If its version is gone, closes it as failed.
///
/// `to` is the version that it does not go to.
pub(crate) fn send_home(
    versions: &Arc<Versions>,
    handed: Handed,
    home: &UnboundedSender<Handed>,
    to: Option<VersionNumber>,
    reason: &str,
) {
    note_staying(versions, &handed.admitted, to, reason);
    if let Err(lost) = home.send(handed) {
        close(versions, lost.0, Failure::NotTakenOver);
    }
}

/// Logs and counts that a connection stays with its version, and does not go to the
/// version `to`.
pub(crate) fn note_staying(
    versions: &Versions,
    admitted: &Admitted,
    to: Option<VersionNumber>,
    reason: &str,
) {
    let Admitted { connection, stay } = admitted;
    let from = stay.version();
    tracing::warn!(
        service = &*versions.service,
        version = from.number.get(),
        connection = connection.id(),
        peer = %connection.peer(),
        to = to.map(VersionNumber::get),
        "connection not handed over, it goes on where it was: {}",
        one_line(reason)
    );
    // The connection is not offered to that version again. If a later version asks
    // already, the connection does not count as staying.
    if let Some(number) = to
        && connection.mark_refused(number)
        && to >= from.asks_for()
    {
        from.count_staying();
    }
}

/// Closes a connection that was given up and cannot go anywhere.
pub(crate) fn close(versions: &Arc<Versions>, handed: Handed, failure: Failure) {
    let closing = Arc::clone(versions);
    versions.spawn_task(async move {
        closing.finish(handed.admitted, Err(failure)).await;
    });
}

/// Offers that belong together, while the guest of a shared instance decides about
/// them.
///
/// Each is waiting first. From there to accepted or refused, by
/// [`decide`](Self::decide). When none waits, [`accept`](Self::accept) takes the
/// accepted connections. If the guest dies before that, all are refused, those that it
/// accepted too.
#[derive(Default)]
pub(crate) struct Batch {
    waiting: VecDeque<Offer>,
    accepted: Vec<Offer>,
}

impl Batch {
    pub(crate) fn new(offers: Vec<Offer>) -> Self {
        Self {
            waiting: offers.into(),
            accepted: Vec::new(),
        }
    }

    /// The next connection to decide about. `None` if all are decided about.
    pub(crate) fn next(&self) -> Option<&Handed> {
        self.waiting.front().and_then(Offer::handed)
    }

    /// Applies what the guest says about the next connection. If the guest has died,
    /// refuses all and returns the failure.
    pub(crate) fn decide(
        &mut self,
        decision: Result<Result<(), String>, Failure>,
    ) -> Result<(), Failure> {
        match decision {
            Ok(Ok(())) => self.accepted.extend(self.waiting.pop_front()),
            Ok(Err(reason)) => {
                if let Some(offer) = self.waiting.pop_front() {
                    offer.refuse(&reason);
                }
            }
            Err(failure) => {
                self.refuse_all(&failure);
                return Err(failure);
            }
        }
        Ok(())
    }

    /// Refuses all, because the guest has died.
    pub(crate) fn refuse_all(&mut self, failure: &Failure) {
        let reason = failure.to_string();
        let all = self.accepted.drain(..).chain(self.waiting.drain(..));
        all.for_each(|offer| offer.refuse(&reason));
    }

    /// Counts the connections that the guest has accepted on the new version, and
    /// returns them.
    pub(crate) fn accept(self) -> impl Iterator<Item = Admitted> {
        let accepted = self.accepted.into_iter();
        accepted.filter_map(|offer| offer.accept().map(|(admitted, _)| admitted))
    }
}

/// The connections that a shared instance has given up and that are not offered yet.
///
/// Kept outside of the calls into the guest: if the guest dies, its complete states
/// survive. From here all are offered together; or closed, if the version aborts.
#[derive(Default)]
pub(crate) struct GivenUp {
    handed: Vec<Handed>,
    /// The bytes of all states.
    size: u64,
}

impl GivenUp {
    /// Adds a connection with its state. If it cannot be handed over, gives it back
    /// with the reason.
    ///
    /// All states together may have at most `limit` bytes, which is the memory limit of
    /// the instance: an instance cannot know more than it can hold.
    pub(crate) fn add(&mut self, handed: Handed, limit: u64) -> Option<(Handed, String)> {
        let size = self.size.saturating_add(handed.state.size() as u64);
        if let Err(reason) = check(&handed.state) {
            return Some((handed, reason));
        }
        if size > limit {
            let reason = format!("the states of its instance have more than {limit} bytes");
            return Some((handed, reason));
        }
        self.size = size;
        self.handed.push(handed);
        None
    }

    /// Takes all connections, to offer them.
    pub(crate) fn take(&mut self) -> Vec<Handed> {
        self.size = 0;
        std::mem::take(&mut self.handed)
    }
}

/// Checks the size of a state. The error says why it cannot be handed over.
pub(crate) fn check(state: &ConnectionState) -> Result<(), String> {
    let size = state.size();
    if size > MAX_STATE {
        return Err(format!(
            "its state has {size} bytes, and no more than {MAX_STATE} are handed over"
        ));
    }
    Ok(())
}
