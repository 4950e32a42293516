//! The sockets that a service listens on, which a reload may change.
//!
//! A socket that is added is accepted on beside the others. One that is removed takes no
//! new peers; those that the kernel has connected already are still served, as when the
//! service drains. A socket that stays is not touched. One that another service is to have
//! goes to that as it is, with the peers that wait there.

use crate::lifecycle::Phase;
use crate::listen::address::ListenAddress;
use crate::listen::local::{LocalAddress, Transport};
use crate::listen::opening::Opened;
use crate::socket_file::SocketFile;
use crate::sync::lock;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{mpsc, watch};

/// A socket on its way to the accept loops, with the phase of its own that ends it.
pub(super) struct Entering {
    pub(super) opened: Opened,
    /// Set when another service goes on with the socket.
    pub(super) given_away: Arc<AtomicBool>,
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
    /// The socket, as long as it is accepted on.
    socket: Weak<OwnedFd>,
    file: Option<Weak<SocketFile>>,
    is_inherited: bool,
    given_away: Arc<AtomicBool>,
    /// How far its end has come; no further than that of the service.
    phase: watch::Sender<Phase>,
}

impl Listed {
    /// The socket again. `None` if nobody accepts on it any more.
    fn opened(&self) -> Option<Opened> {
        let file = match &self.file {
            Some(file) => Some(file.upgrade()?),
            None => None,
        };
        Some(Opened {
            socket: self.socket.upgrade()?,
            local: self.local.clone(),
            asked: self.asked.clone(),
            is_inherited: self.is_inherited,
            file,
        })
    }
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
            socket: Weak::new(),
            file: None,
            is_inherited: false,
            given_away: Arc::default(),
            phase: watch::Sender::new(Phase::Serving),
        });
        lock(&listeners.listed).extend(listed);
        listeners
    }

    /// Adds sockets, which are accepted on from now on.
    pub(super) fn add(&self, opened: Vec<Opened>) {
        let mut listed = lock(&self.listed);
        for opened in opened {
            let (phase, watching) = watch::channel(Phase::Serving);
            let given_away = Arc::<AtomicBool>::default();
            listed.push(Listed {
                asked: opened.asked.clone(),
                local: opened.local.clone(),
                socket: Arc::downgrade(&opened.socket),
                file: opened.file.as_ref().map(Arc::downgrade),
                is_inherited: opened.is_inherited,
                given_away: Arc::clone(&given_away),
                phase,
            });
            let entering = Entering {
                opened,
                given_away,
                phase: watching,
            };
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

    /// The sockets of an address, for another service that is to go on with them. None if
    /// they are not accepted on.
    pub(super) fn of(&self, address: &ListenAddress) -> Vec<Opened> {
        let listed = lock(&self.listed);
        let asked = listed
            .iter()
            .filter(|it| it.asked.as_ref() == Some(address));
        asked.filter_map(Listed::opened).collect()
    }

    /// Takes no more from the sockets of an address, and leaves what waits there to the
    /// service that has them now.
    pub(super) fn give_away(&self, address: &ListenAddress) {
        let mut listed = lock(&self.listed);
        listed.retain(|it| {
            let stays = it.asked.as_ref() != Some(address);
            if !stays {
                it.given_away.store(true, Ordering::Relaxed);
                Phase::advance(&it.phase, Phase::Draining);
            }
            stays
        });
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
