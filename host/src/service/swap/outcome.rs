//! What a swap came to, or why there was none.

use super::OldConnections;
use crate::admission::policy::AdmissionError;
use crate::component::builtin::LoadError;
use crate::contract::Contract;
use crate::guest::handler_error::HandlerError;
use crate::service::probe::ProbeError;
use crate::text::one_line;
use crate::version::Version;
use std::time::Duration;

/// The result of a swap.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Swapped {
    /// The number of the version that is current now.
    pub version: u32,
    /// False if the component is the same as the current one, and nothing was done.
    pub changed: bool,
    /// What becomes of the connections of the version before. `None` if nothing was
    /// done.
    pub old: Option<OldConnections>,
    /// How many connections the version before still serves.
    pub staying: u64,
    /// How many connections of the version before failed while they were to be handed
    /// over.
    #[serde(default)]
    pub lost: u64,
    /// How many bytes of what the instance of the version before knew the new one has
    /// taken over. `None` if there was nothing, or if it was discarded.
    #[serde(default)]
    pub state: Option<u64>,
    /// Whether the instance of the version before died as it was to save what it knew, so
    /// that this is gone. `state` is then what an instance after it knew.
    #[serde(default)]
    pub state_lost: bool,
    /// If the version is a canary, how many of 100 new connections it gets. `version` is
    /// then not current yet, and `old` says what becomes of the others when it is.
    #[serde(default)]
    pub canary: Option<u8>,
    /// SHA-256 of the current version's component file, in hexadecimal.
    pub sha256: String,
}

impl Swapped {
    /// What has come of it: `version` is current. `old` says what becomes of the
    /// connections of the version before, of which it still serves `staying`; `None`
    /// if nothing was done.
    pub(in crate::service) fn new(
        version: &Version,
        old: Option<OldConnections>,
        staying: u64,
    ) -> Self {
        Self {
            version: version.number.get(),
            changed: old.is_some(),
            old,
            staying,
            lost: 0,
            state: None,
            state_lost: false,
            canary: None,
            sha256: version.handler.digest().to_owned(),
        }
    }

    /// Waits until the connections of the version before are handed over or stay, but
    /// for at most [`SETTLING`] from when all of them have been told. Then counts them.
    pub(in crate::service) async fn settle(&mut self, old: &Version) {
        if self.old == Some(OldConnections::HandOver) && self.canary.is_none() {
            while tokio::time::timeout(SETTLING, old.left()).await.is_err() && old.is_asking() {
                // Some have not been told yet, so they are not slow.
            }
            self.staying = old.served();
            self.lost = old.lost();
        }
    }
}

/// How long a swap waits for connections to be handed over. Longer than a shared
/// instance gathers them.
const SETTLING: Duration = Duration::from_secs(2);

/// Why a swap or a rollback did not happen, so that the old version serves on. One line
/// each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwapError {
    /// Another swap is under way.
    #[error("a swap of {0} is under way; try again when it is done")]
    Busy(String),
    /// The service is ending.
    #[error("{0} is draining and takes no new version")]
    Ending(String),
    /// The component cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The component cannot be a handler of this service.
    #[error(transparent)]
    Handler(#[from] HandlerError),
    /// The component serves connections and the service datagrams, or the other way.
    #[error(
        "{name}: its contract is {contract}, and the service has {served}; swap in a component \
         for these, or start a service for it"
    )]
    Transport {
        /// Where the component came from.
        name: String,
        /// Its contract.
        contract: Contract,
        /// What the service has: connections or datagrams.
        served: &'static str,
    },
    /// One of the versions cannot hand connections over.
    #[error("{0}: its component {1}; use --old drain or --old abort")]
    HandOver(String, &'static str),
    /// The new version does not take over what the instance of the current one knows.
    #[error(
        "{name}: it does not take over the state of version {number} ({tag}, {bytes} bytes): \
         {reason}; --discard-state goes to it without the state", tag = one_line(.tag)
    )]
    State {
        /// Where the new component came from.
        name: String,
        /// The number of the current version.
        number: u32,
        /// What the state's bytes mean.
        tag: String,
        /// How many bytes it has, its tag included.
        bytes: u64,
        /// Why it is not taken over.
        reason: String,
    },
    /// The instance of the current version did not save what it knows.
    #[error(
        "{name}: the state of version {number} is not passed on: {reason}; --discard-state goes \
         on without it"
    )]
    Unsaved {
        /// The service.
        name: String,
        /// The number of the current version.
        number: u32,
        /// Why there is no state.
        reason: String,
    },
    /// Nothing would change.
    #[error("the swap changes nothing; name a component, or a setting that changes")]
    Nothing,
    /// The component of the current version is not there any more.
    #[error(
        "{name}: the component of version {number} is not there any more ({reason}); name the \
         component to swap in"
    )]
    Gone {
        /// Where the component came from.
        name: String,
        /// The number of the current version.
        number: u32,
        /// What is there.
        reason: String,
    },
    /// A variable is to be taken away that is not there.
    #[error(
        "unset-env: {0} is no variable of the handler, or is set by the same swap; `status` lists \
         the variables"
    )]
    NoVariable(String),
    /// The dispatch of datagrams changes.
    #[error(
        "{0}: the dispatch of datagrams does not change while the service runs; start it again \
         with another one"
    )]
    Dispatch(String),
    /// The limits do not go together with what the service has otherwise.
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    /// A canary is under way.
    #[error(
        "{name} has version {number} as a canary; `sockserve promote {name}` makes it current, \
         `sockserve rollback {name}` takes it back"
    )]
    Canary {
        /// The service.
        name: String,
        /// The number of the canary.
        number: u32,
    },
    /// There is no canary.
    #[error("{0} has no canary; `sockserve swap --canary PERCENT` begins one")]
    NoCanary(String),
    /// The version cannot be a canary.
    #[error("{name}: it cannot be a canary, because {reason}")]
    Unshared {
        /// Where the component came from.
        name: String,
        /// Why not, and what would work.
        reason: &'static str,
    },
    /// The probe failed.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The version before was taken back by itself.
    #[error(
        "{name}: version {number} was taken back because {reason}; to go to it all the same name \
         it with --to {number}"
    )]
    Condemned {
        /// The service.
        name: String,
        /// The version before.
        number: u32,
        /// Why it was taken back.
        reason: String,
    },
    /// A version was named that is not the one before.
    #[error(
        "{0} can go back to version {2} only, not to version {1}; swap its component in instead"
    )]
    NotThere(String, u32, u32),
    /// There is nothing to go back to.
    #[error("{0} has no version before this one to go back to")]
    NoPrevious(String),
    /// The host failed.
    #[error("the swap failed: {0}")]
    Host(String),
}
