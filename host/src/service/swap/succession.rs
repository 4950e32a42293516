//! How what the instance of the current version knows reaches the next one, or stops the
//! swap.

use super::SwapError;
use crate::guest::handler::Handler;
use crate::guest::instance::Prepared;
use crate::guest::instance_state::{InstanceState, NOT_EXPORTED};
use crate::service::Shared;
use crate::version::Version;
use crate::version::offer::GATHER;
use crate::version::succession::{Departing, Died, Purpose};
use std::sync::Arc;
use std::time::Duration;

/// What passes from the current version to the next. If this is dropped, the current
/// version goes on as before.
#[derive(Default)]
pub(in crate::service) struct Succession {
    /// The instance that has taken the state over. `None` if there is no state.
    pub(super) prepared: Option<Prepared>,
    /// The driver of the current version, which waits. `None` if it was not asked.
    departing: Option<Departing>,
    /// How many bytes the state has. `None` if there is none.
    pub(in crate::service) bytes: Option<u64>,
    /// Whether an instance died as it was to save what it knew.
    pub(in crate::service) lost: bool,
}

impl Succession {
    /// The next version is current.
    pub(super) fn complete(self) {
        if let Some(departing) = self.departing {
            departing.leave();
        }
    }
}

/// How many calls may lie between the request and the saved state, at most: the turn that
/// is under way, that of the slowest connection, and the call that saves.
const CALLS: u32 = 3;

/// How many instances may die one after another as they are to save what they know, before
/// a swap goes on without.
const DEATHS: usize = 2;

/// Why a version does not take a state though its component may know how to.
const OWN_INSTANCES: &str = "each connection would have an instance of its own";

/// What became of the request to save a state.
pub(in crate::service) enum Saved {
    State(InstanceState),
    /// There is nothing to pass on, or no instance.
    Nothing,
    /// The instance died, and its state with it.
    Died,
}

impl Shared {
    /// Asks the instance of `current` for what it knows, and gives it to an instance of
    /// `next`. With `discard` nothing is asked for and nothing passes on.
    ///
    /// Until the result is completed or dropped, the current version serves nothing new.
    pub(in crate::service) async fn succeed(
        &self,
        current: &Arc<Version>,
        next: &Handler,
        hand_over: bool,
        discard: bool,
    ) -> Result<Succession, SwapError> {
        if discard || !current.handler.keeps_state() {
            return Ok(Succession::default());
        }
        let number = self.versions.next_number();
        let mut deaths = 0;
        let (departing, state) = loop {
            let mut departing = current.depart(Purpose::Successor { number, hand_over });
            match self.saved(current, &mut departing).await? {
                Saved::State(state) => break (departing, state),
                Saved::Nothing => {
                    return Ok(Succession {
                        departing: Some(departing),
                        lost: deaths > 0,
                        ..Succession::default()
                    });
                }
                // What it knew is gone, and so nothing is lost by going on. Another
                // instance may have begun in the meantime.
                Saved::Died if deaths < DEATHS => deaths += 1,
                Saved::Died => {
                    return Ok(Succession {
                        lost: true,
                        ..Succession::default()
                    });
                }
            }
        };
        let bytes = state.size();
        let tag = state.tag.clone();
        let refused = |reason: String| SwapError::State {
            name: next.source().to_owned(),
            number: current.number.get(),
            tag,
            bytes,
            reason,
        };
        if !next.keeps_state() {
            let reason = if next.exports_state() {
                OWN_INSTANCES
            } else {
                NOT_EXPORTED
            };
            return Err(refused(reason.to_owned()));
        }
        let prepared = Prepared::new(next, self.versions.scope(None), state).await;
        Ok(Succession {
            prepared: Some(prepared.map_err(refused)?),
            departing: Some(departing),
            bytes: Some(bytes),
            lost: deaths > 0,
        })
    }

    /// Waits for what the instance of a version knows, but not for ever.
    pub(in crate::service) async fn saved(
        &self,
        version: &Version,
        departing: &mut Departing,
    ) -> Result<Saved, SwapError> {
        let unsaved = |reason: String| SwapError::Unsaved {
            name: self.name().to_owned(),
            number: version.number.get(),
            reason,
        };
        let patience = GATHER * 2 + version.handler.limits().deadline * CALLS;
        match tokio::time::timeout(patience, departing.saved()).await {
            Ok(Ok(Some(state))) => match check(&state, version) {
                Ok(()) => Ok(Saved::State(state)),
                Err(reason) => Err(unsaved(reason)),
            },
            Ok(Ok(None)) => Ok(Saved::Nothing),
            Ok(Err(Died)) => Ok(Saved::Died),
            Err(_) => Err(unsaved(late(patience))),
        }
    }
}

/// Checks the size of a state: no instance knows more than it can hold.
fn check(state: &InstanceState, version: &Version) -> Result<(), String> {
    let most = version.handler.limits().max_memory_bytes;
    if state.size() > most {
        return Err(format!(
            "it has {} bytes, and no more than {most} pass on",
            state.size()
        ));
    }
    Ok(())
}

fn late(patience: Duration) -> String {
    format!(
        "it was not saved within {}",
        humantime::format_duration(patience)
    )
}
