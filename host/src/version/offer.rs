//! A connection on its way from one version to another.
//!
//! The version that gives it up makes it [`Handed`]: nobody else has a hold on
//! it. It is [`Offer`]ed to the version that is current. An offer that is not
//! accepted, for whatever reason, goes back by itself to where it came from, so
//! a connection is in exactly one place at any time, and none is dropped on the
//! way.

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

/// How long a shared instance waits for its calls to return before it hands over
/// those that have. The contract says so.
pub(crate) const GATHER: Duration = Duration::from_secs(1);

/// A connection that a version has given up, with what its handler knows of it.
pub(crate) struct Handed {
    /// On the books of the version that has given it up, until another one has
    /// accepted it.
    pub(crate) admitted: Admitted,
    pub(crate) state: ConnectionState,
    /// What lets the next connection in under `sequential`.
    pub(crate) turn: Option<OwnedSemaphorePermit>,
    /// Its part of what the states of isolated instances may take together.
    pub(crate) room: Option<Room>,
}

/// Bytes that the states of a service's isolated instances may have together: what
/// 64 states of the largest size take. An instance that is to give a state waits
/// until there is room; shared instances have a limit of their own.
pub(crate) const STATES: usize = 64 * MAX_STATE;

/// Room for one state.
pub(crate) struct Room(OwnedSemaphorePermit);

impl Room {
    /// Waits for the room that a state may need before it is known.
    pub(crate) async fn reserve(states: &Arc<Semaphore>) -> Option<Self> {
        // It is never closed.
        let most = u32::try_from(MAX_STATE).unwrap_or(u32::MAX);
        let permit = Arc::clone(states).acquire_many_owned(most).await.ok()?;
        Some(Self(permit))
    }

    /// Keeps as much as a state of `size` bytes needs, and gives the rest back.
    pub(crate) fn shrink(&mut self, size: usize) {
        let rest = self.0.num_permits().saturating_sub(size);
        drop(self.0.split(rest));
    }
}

/// A connection that a version is offered. Goes back if it is dropped.
pub(crate) struct Offer {
    handed: Option<Handed>,
    /// Why it goes back.
    reason: String,
    versions: Arc<Versions>,
    to: Arc<Version>,
    home: UnboundedSender<Handed>,
}

impl Offer {
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

    /// The connection and its state, unless they are gone.
    pub(crate) fn handed(&self) -> Option<&Handed> {
        self.handed.as_ref()
    }

    /// Takes the connection on.
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

    /// Sends it back.
    pub(crate) fn refuse(mut self, reason: &str) {
        reason.clone_into(&mut self.reason);
    }

    /// Takes it back before the version has seen it.
    pub(crate) fn withdraw(mut self) -> Option<Handed> {
        self.to.count_withdrawn();
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

/// Sends a connection back to where it came from, or closes it if nobody is
/// there any more.
pub(crate) fn send_home(
    versions: &Arc<Versions>,
    handed: Handed,
    home: &UnboundedSender<Handed>,
    to: Option<VersionNumber>,
    reason: &str,
) {
    keep(versions, &handed.admitted, to, reason);
    if let Err(lost) = home.send(handed) {
        close(versions, lost.0, Failure::Homeless);
    }
}

/// Notes that a connection stays with its version, and does not go to the version
/// `to`.
pub(crate) fn keep(
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
    // It is not offered to that version again. It does not count as staying if a
    // later version asks for it already.
    if let Some(number) = to
        && connection.mark_refused(number)
        && to >= from.asks_for()
    {
        from.count_staying();
    }
}

/// Closes a connection that was given up and cannot go on anywhere.
pub(crate) fn close(versions: &Arc<Versions>, handed: Handed, failure: Failure) {
    let closing = Arc::clone(versions);
    versions.spawn_task(async move {
        closing.finish(handed.admitted, Err(failure)).await;
    });
}

/// Offers that belong together, while a guest decides about them.
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

    /// The next one to decide about.
    pub(crate) fn next(&self) -> Option<&Handed> {
        self.waiting.front().and_then(Offer::handed)
    }

    /// What the guest says to the next one. If it has died, all go back.
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

    /// The guest has died, and all go back.
    pub(crate) fn refuse_all(&mut self, failure: &Failure) {
        let reason = failure.to_string();
        let all = self.accepted.drain(..).chain(self.waiting.drain(..));
        all.for_each(|offer| offer.refuse(&reason));
    }

    /// Takes on those that the guest has accepted.
    pub(crate) fn accept(self) -> impl Iterator<Item = Admitted> {
        let accepted = self.accepted.into_iter();
        accepted.filter_map(|offer| offer.accept().map(|(admitted, _)| admitted))
    }
}

/// What a shared instance has given up, until it is offered.
///
/// It lies outside of the calls into the guest, so that what was given up before
/// the guest dies is safe.
#[derive(Default)]
pub(crate) struct GivenUp {
    handed: Vec<Handed>,
    /// Bytes of all states.
    size: u64,
}

impl GivenUp {
    /// Adds a connection with its state, or gives it back with the reason why it
    /// cannot be handed over.
    ///
    /// All states together have at most `limit` bytes, which is what the instance
    /// may have for memory: it cannot know more than that.
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

    pub(crate) fn take(&mut self) -> Vec<Handed> {
        self.size = 0;
        std::mem::take(&mut self.handed)
    }
}

/// Why a state cannot be handed over.
pub(crate) fn check(state: &ConnectionState) -> Result<(), String> {
    let size = state.size();
    if size > MAX_STATE {
        return Err(format!(
            "its state has {size} bytes, and no more than {MAX_STATE} are handed over"
        ));
    }
    Ok(())
}
