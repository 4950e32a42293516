//! How what a shared instance knows passes on: to the instance of the next version, or
//! out of the service at its end.
//!
//! ```text
//! a swap, or the service's end      the driver of the shared instance
//!   Version::depart  ── Departure ──>  Version::departing
//!                                      gives its connections up, saves, takes nothing new
//!   Departing::saved <─── state ────   Departure::settle
//!   another instance restores it
//!   Departing::leave ─── verdict ──>   offers its connections to the version that is
//!                                      current now; or, if Departing was dropped, takes
//!                                      them back and goes on
//! ```
//!
//! This module passes messages; the drivers are in `dispatch`, the rest in `service`.

use crate::guest::failure::Failure;
use crate::guest::instance::Prepared;
use crate::guest::instance_state::InstanceState;
use crate::lifecycle::VersionNumber;
use crate::sync::lock;
use crate::version::Version;
use std::pin::pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Notify, oneshot};

/// A request to the driver of a shared instance: pass on what it knows.
pub(crate) struct Departure {
    purpose: Purpose,
    saved: oneshot::Sender<Option<InstanceState>>,
    verdict: oneshot::Receiver<()>,
}

/// What a state is saved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The version with this number is to take this one's place.
    Successor {
        number: VersionNumber,
        /// Whether the connections are handed over to it.
        hand_over: bool,
    },
    /// The service ends. The driver ends with it.
    End,
}

/// What has come of a departure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Another version is current now.
    Left,
    /// There is no other version: this one goes on.
    Stays,
    /// The service ends. What the connections of the instance would change now, nobody
    /// would see; they end with it.
    Ends,
}

/// The other end of a [`Departure`]. If this is dropped, the version goes on as before.
pub(crate) struct Departing {
    saved: oneshot::Receiver<Option<InstanceState>>,
    verdict: oneshot::Sender<()>,
}

/// What a version has of this.
#[derive(Default)]
pub(super) struct Succession {
    departure: Mutex<Option<Departure>>,
    departing: Notify,
    prepared: Mutex<Option<Prepared>>,
}

impl Departure {
    /// The version that the connections are to be handed over to. `None` if they are not.
    pub(crate) fn hands_over_to(&self) -> Option<VersionNumber> {
        match self.purpose {
            Purpose::Successor {
                number,
                hand_over: true,
            } => Some(number),
            Purpose::Successor { .. } | Purpose::End => None,
        }
    }

    /// Whether nobody waits for it any more.
    fn is_stale(&self) -> bool {
        self.saved.is_closed()
    }

    /// Whether it is the service's end.
    pub(crate) fn is_end(&self) -> bool {
        self.purpose == Purpose::End
    }

    /// Passes on what the guest has saved, and waits for what comes of it. At the service's
    /// end nothing comes of it.
    pub(crate) async fn settle(self, state: Option<InstanceState>) -> Verdict {
        let is_end = self.is_end();
        let _ = self.saved.send(state);
        if is_end {
            return Verdict::Ends;
        }
        match self.verdict.await {
            Ok(()) => Verdict::Left,
            Err(_) => Verdict::Stays,
        }
    }
}

impl Departing {
    /// Waits for what the instance knows. `None` if it has nothing to pass on, or if there
    /// is no instance. An error if the instance died, and its state with it.
    pub(crate) async fn saved(&mut self) -> Result<Option<InstanceState>, Died> {
        (&mut self.saved).await.map_err(|_| Died)
    }

    /// The version is no longer current.
    pub(crate) fn leave(self) {
        let _ = self.verdict.send(());
    }
}

/// The instance that was to save its state died.
#[derive(Debug)]
pub(crate) struct Died;

/// What the last instance of a service of datagrams knew. Its connections have all ended,
/// so nobody has to ask for it.
#[derive(Default)]
pub(crate) struct LastState {
    is_wanted: AtomicBool,
    saved: Mutex<Option<Result<Option<InstanceState>, Failure>>>,
}

impl LastState {
    /// Whether somebody wants it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// From now on the last instance keeps what it knows.
    pub(crate) fn want(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    /// Keeps what an instance has saved, or why it could not.
    pub(crate) fn keep(&self, saved: Result<Option<InstanceState>, Failure>) {
        *lock(&self.saved) = Some(saved);
    }

    /// Takes it. `None` if there was no instance.
    pub(crate) fn take(&self) -> Option<Result<Option<InstanceState>, Failure>> {
        lock(&self.saved).take()
    }
}

impl Version {
    /// Asks the driver of the shared instance for what the instance knows.
    pub(crate) fn depart(&self, purpose: Purpose) -> Departing {
        let (saved, saving) = oneshot::channel();
        let (verdict, waiting) = oneshot::channel();
        *lock(&self.succession.departure) = Some(Departure {
            purpose,
            saved,
            verdict: waiting,
        });
        self.succession.departing.notify_one();
        Departing {
            saved: saving,
            verdict,
        }
    }

    /// Waits until somebody asks for what the shared instance knows. Cancel-safe.
    pub(crate) async fn departing(&self) -> Departure {
        loop {
            let mut departing = pin!(self.succession.departing.notified());
            // From here on no notification is missed.
            departing.as_mut().enable();
            let departure = lock(&self.succession.departure).take();
            match departure {
                Some(departure) if !departure.is_stale() => return departure,
                Some(_) | None => departing.await,
            }
        }
    }

    /// Has an instance ready for the driver, which is not started yet.
    pub(crate) fn prepare(&self, instance: Prepared) {
        *lock(&self.succession.prepared) = Some(instance);
    }

    /// The instance that is ready for the driver. `None` if it makes its own.
    pub(crate) fn prepared(&self) -> Option<Prepared> {
        lock(&self.succession.prepared).take()
    }
}
