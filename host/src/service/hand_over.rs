//! A connection on its way from one version to another.
//!
//! The version that gives it up makes it [`Handed`]: nobody else has a hold on
//! it. It is [`Offer`]ed to the version that is current. An offer that is not
//! accepted, for whatever reason, goes back by itself to where it came from, so
//! a connection is in exactly one place at any time, and none is dropped on the
//! way.

#[cfg(test)]
mod tests;

use crate::guest::failure::{Failure, one_line};
use crate::guest::hand_over::{ConnectionState, MAX_STATE};
use crate::service::Shared;
use crate::service::version::Version;
use crate::sockets::connection::Connection;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;

/// How long a shared instance waits for its calls to return before it hands over
/// those that have. The contract says so.
pub(crate) const GATHER: Duration = Duration::from_secs(1);

/// A connection that a version has given up, with what its handler knows of it.
pub(crate) struct Handed {
    pub(crate) connection: Arc<Connection>,
    pub(crate) state: ConnectionState,
    /// What lets the next connection in under `sequential`.
    pub(crate) turn: Option<OwnedSemaphorePermit>,
}

/// A connection that a version is offered. Goes back if it is dropped.
pub(crate) struct Offer {
    handed: Option<Handed>,
    /// Why it goes back.
    reason: String,
    service: Arc<Shared>,
    from: Arc<Version>,
    to: Arc<Version>,
    home: UnboundedSender<Handed>,
}

impl Offer {
    pub(crate) fn new(
        service: &Arc<Shared>,
        from: &Arc<Version>,
        to: &Arc<Version>,
        handed: Handed,
        home: &UnboundedSender<Handed>,
    ) -> Self {
        to.expect();
        Self {
            handed: Some(handed),
            reason: "the instance that was to take it ended".to_owned(),
            service: Arc::clone(service),
            from: Arc::clone(from),
            to: Arc::clone(to),
            home: home.clone(),
        }
    }

    /// The connection and its state, unless they are gone.
    pub(crate) fn handed(&self) -> Option<&Handed> {
        self.handed.as_ref()
    }

    /// Takes the connection on.
    pub(crate) fn accept(mut self) -> Option<(Arc<Connection>, Option<OwnedSemaphorePermit>)> {
        let Handed {
            connection, turn, ..
        } = self.handed.take()?;
        self.to.arrived();
        self.from.handed_over();
        tracing::debug!(
            service = &*self.service.name,
            connection = connection.id(),
            from = self.from.number,
            version = self.to.number,
            "connection handed over"
        );
        self.service.forget_if_ended(&self.from);
        Some((connection, turn))
    }

    /// Sends it back.
    pub(crate) fn refuse(mut self, reason: &str) {
        reason.clone_into(&mut self.reason);
    }

    /// Takes it back before the version has seen it.
    pub(crate) fn withdraw(mut self) -> Option<Handed> {
        self.to.gone();
        self.service.forget_if_ended(&self.to);
        self.handed.take()
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        let Some(handed) = self.handed.take() else {
            return;
        };
        self.to.refused();
        send_home(
            &self.service,
            &self.from,
            handed,
            &self.home,
            self.to.number,
            &self.reason,
        );
        self.service.forget_if_ended(&self.to);
    }
}

/// Sends a connection back to where it came from, or closes it if nobody is
/// there any more.
pub(crate) fn send_home(
    service: &Arc<Shared>,
    from: &Arc<Version>,
    handed: Handed,
    home: &UnboundedSender<Handed>,
    to: u32,
    reason: &str,
) {
    stay(service, from, &handed.connection, to, reason);
    if let Err(lost) = home.send(handed) {
        close(service, from, lost.0, Failure::Homeless);
    }
}

/// Notes that a connection stays with `from`, and does not go to the version `to`.
pub(crate) fn stay(
    service: &Shared,
    from: &Version,
    connection: &Connection,
    to: u32,
    reason: &str,
) {
    tracing::warn!(
        service = &*service.name,
        version = from.number,
        connection = connection.id(),
        peer = %connection.peer(),
        to,
        "connection not handed over, it goes on where it was: {}",
        one_line(reason)
    );
    // Nor is it offered to that one again; but a later one may ask already.
    connection.refused_by(to);
    if to >= from.asks_for() {
        from.stays();
    }
}

/// Closes a connection that was given up and cannot go on anywhere.
pub(crate) fn close(service: &Arc<Shared>, from: &Arc<Version>, handed: Handed, failure: Failure) {
    let (closing, from) = (Arc::clone(service), Arc::clone(from));
    service.spawn_task(async move {
        closing.finish(&from, handed.connection, Err(failure)).await;
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
    pub(crate) fn accept(self) -> impl Iterator<Item = Arc<Connection>> {
        let accepted = self.accepted.into_iter();
        accepted.filter_map(|offer| offer.accept().map(|(connection, _)| connection))
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
    /// Adds a connection with its state, or says why that cannot be handed over.
    ///
    /// All states together have at most `limit` bytes, which is what the instance
    /// may have for memory: it cannot know more than that.
    pub(crate) fn add(&mut self, handed: Handed, limit: u64) -> Result<(), (Handed, String)> {
        let size = self.size.saturating_add(handed.state.size() as u64);
        if let Err(reason) = check(&handed.state) {
            return Err((handed, reason));
        }
        if size > limit {
            let reason = format!("the states of its instance have more than {limit} bytes");
            return Err((handed, reason));
        }
        self.size = size;
        self.handed.push(handed);
        Ok(())
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
