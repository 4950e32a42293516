//! The sockets that a service listens on, which a reload may change.
//!
//! A socket that is added is accepted on beside the others. One that is removed takes no
//! new peers; those that the kernel has connected already are still served, as when the
//! service drains. A socket that stays is not touched.

use crate::lifecycle::Phase;
use crate::listen::address::ListenAddress;
use crate::listen::local::{LocalAddress, Transport};
use crate::listen::opening::Opened;
use crate::sync::lock;
use std::sync::Mutex;
use tokio::sync::{mpsc, watch};

/// A socket on its way to the accept loops, with the phase of its own that ends it.
pub(super) struct Entering {
    pub(super) opened: Opened,
    pub(super) phase: watch::Receiver<Phase>,
}

/// The sockets of a service.
pub(super) struct Listeners {
    listed: Mutex<Vec<Listed>>,
    /// How far the end of the sockets has come that are removed and still have a backlog.
    leaving: Mutex<Vec<watch::Sender<Phase>>>,
    entering: mpsc::UnboundedSender<Entering>,
    /// Taken by the accept loops.
    accepting: Mutex<Option<mpsc::UnboundedReceiver<Entering>>>,
}

/// A socket of the service.
struct Listed {
    /// What it was asked for by. `None` for a socket that the process was given.
    asked: Option<ListenAddress>,
    local: LocalAddress,
    /// How far its end has come; no further than that of the service.
    phase: watch::Sender<Phase>,
}

impl Listeners {
    /// Makes the list of sockets that are to be accepted on from the start.
    pub(super) fn new(opened: Vec<Opened>) -> Self {
        let (entering, accepting) = mpsc::unbounded_channel();
        let listeners = Self {
            listed: Mutex::default(),
            leaving: Mutex::default(),
            entering,
            accepting: Mutex::new(Some(accepting)),
        };
        listeners.add(opened);
        listeners
    }

    /// A list of addresses whose sockets are not accepted on: of one connection, or of
    /// datagrams.
    pub(super) fn fixed(locals: Vec<LocalAddress>) -> Self {
        let listeners = Self::new(Vec::new());
        let listed = locals.into_iter().map(|local| Listed {
            asked: None,
            local,
            phase: watch::Sender::new(Phase::Serving),
        });
        lock(&listeners.listed).extend(listed);
        listeners
    }

    /// Adds sockets, which are accepted on from now on.
    pub(super) fn add(&self, opened: Vec<Opened>) {
        let mut listed = lock(&self.listed);
        for opened in opened {
            let phase = watch::Sender::new(Phase::Serving);
            let entering = Entering {
                phase: phase.subscribe(),
                opened,
            };
            listed.push(Listed {
                asked: entering.opened.asked.clone(),
                local: entering.opened.local.clone(),
                phase,
            });
            // If the service has ended, the socket is closed here.
            let _ = self.entering.send(entering);
        }
    }

    /// Removes the sockets of an address.
    pub(super) fn remove(&self, address: &ListenAddress) {
        let mut leaving = lock(&self.leaving);
        leaving.retain(|phase| !phase.is_closed());
        let mut listed = lock(&self.listed);
        let all = std::mem::take(&mut *listed);
        for it in all {
            if it.asked.as_ref() == Some(address) {
                Phase::advance(&it.phase, Phase::Draining);
                // Its accept loop takes the end of this for an abort.
                leaving.push(it.phase);
            } else {
                listed.push(it);
            }
        }
    }

    /// Tells every socket how far the service has come.
    pub(super) fn enter(&self, phase: Phase) {
        for leaving in lock(&self.leaving).iter() {
            Phase::advance(leaving, phase);
        }
        for listed in lock(&self.listed).iter() {
            Phase::advance(&listed.phase, phase);
        }
    }

    /// The addresses, in the order in which they were asked for.
    pub(super) fn addresses(&self) -> Vec<LocalAddress> {
        let listed = lock(&self.listed);
        listed.iter().map(|it| it.local.clone()).collect()
    }

    /// The transport of the first one.
    pub(super) fn transport(&self) -> Option<Transport> {
        let listed = lock(&self.listed);
        listed.first().map(|it| it.local.transport())
    }

    /// The sockets to accept on, as they come. Only the first call gets them.
    pub(super) fn accepting(&self) -> Option<mpsc::UnboundedReceiver<Entering>> {
        lock(&self.accepting).take()
    }
}
