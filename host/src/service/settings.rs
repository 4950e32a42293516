//! What a reload changes of a service while it runs, beside its handler.

use super::{ServiceHandle, Shared};
use crate::admission::policy::{AdmissionError, AdmissionPolicy};
use crate::descriptors::{Descriptors, Shares};
use crate::limits::Limits;
use crate::listen::address::ListenAddress;
use crate::listen::error::ListenError;
use crate::listen::local::LocalAddress;
use crate::listen::opening::{self, Opened};
use crate::service::rollback::RollbackPolicy;
use crate::version::access::AccessLog;
use std::sync::Arc;

/// The settings of a service that need no other version.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// The limits. Those of instances change with the next version only.
    pub(crate) limits: Limits,
    pub(crate) rollback: RollbackPolicy,
    pub(crate) access_log: AccessLog,
    /// Who may come in.
    pub(crate) admission: AdmissionPolicy,
}

/// Listeners that a service is to have: the new ones are bound already. Dropping this
/// closes them.
pub(crate) struct NewListeners {
    added: Vec<Opened>,
    removed: Vec<ListenAddress>,
}

impl ServiceHandle {
    /// Changes the settings. With a lower limit of connections none is closed: no more are
    /// accepted until there are fewer.
    ///
    /// An error leaves them as they were.
    pub(crate) fn set(&self, settings: Settings) -> Result<(), AdmissionError> {
        self.check(&settings)?;
        self.shared.set(settings);
        Ok(())
    }

    /// Whether the limits are those that were asked for last, by the start, a reload, a
    /// swap or a rollback.
    pub(crate) fn has_limits(&self, limits: &Limits) -> bool {
        **self.shared.asked.load() == *limits
    }

    /// Whether [`set`](Self::set) takes these settings.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), AdmissionError> {
        self.check_admission(&settings.admission, settings.limits.max_connections)
    }

    /// Binds the addresses that are in `after` and not in `before`, unless they are in
    /// `present` already. The service does not accept there before
    /// [`change_listeners`](Self::change_listeners).
    pub(crate) fn bind_listeners(
        &self,
        before: &[ListenAddress],
        after: &[ListenAddress],
        present: &[Opened],
    ) -> Result<NewListeners, ListenError> {
        let only_in = |these: &[ListenAddress], those: &[ListenAddress]| -> Vec<_> {
            let only = these.iter().filter(|it| !those.contains(it));
            only.cloned().collect()
        };
        let backlog = self.shared.versions.limits().backlog;
        let added = only_in(after, before);
        Ok(NewListeners {
            added: opening::open(&added, backlog, self.shared.listening, present)?,
            removed: only_in(before, after),
        })
    }

    /// The sockets of an address, for another service that is to go on with them. None if
    /// the service takes datagrams there.
    pub(crate) fn sockets_of(&self, address: &ListenAddress) -> Vec<Opened> {
        self.shared.listeners.of(address)
    }

    /// Leaves an address to another service, with the peers that wait there.
    pub(crate) fn give_away(&self, address: &ListenAddress) {
        self.shared.listeners.give_away(address);
    }

    /// Accepts on the listeners that were bound, and lets the others go: what the kernel
    /// has connected there already is still served. Returns what it accepts on now and did
    /// not before.
    pub(crate) fn change_listeners(&self, change: NewListeners) -> Vec<LocalAddress> {
        let added = change.added.iter().map(|it| it.local.clone()).collect();
        self.shared.listeners.add(change.added);
        for address in &change.removed {
            self.shared.listeners.remove(address);
        }
        added
    }
}

impl Shared {
    fn set(self: &Arc<Self>, settings: Settings) {
        let Settings {
            limits,
            rollback,
            access_log,
            admission,
        } = settings;
        self.rollback.store(Arc::new(rollback));
        // A rollback does not take back what a reload has said since the swap.
        if let Some(previous) = &mut self.versions.history().previous {
            previous.limits = None;
        }
        self.put(limits, admission, access_log);
    }

    /// Changes the limits only.
    pub(super) fn set_limits(self: &Arc<Self>, limits: Limits) {
        let (admission, access_log) = (self.admission.policy(), self.versions.access_log());
        self.put(limits, admission, access_log);
    }

    fn put(
        self: &Arc<Self>,
        mut limits: Limits,
        admission: AdmissionPolicy,
        access_log: AccessLog,
    ) {
        self.asked.store(Arc::new(limits.clone()));
        let opens = self.versions.current().handler.instances_may_open();
        let (asked, room) = (limits.max_connections, admission.room());
        let descriptors = Descriptors::now().without_connections(self.versions.open());
        let Shares { permits, refused } = descriptors.shares(self.name(), asked, opens, room);
        limits.max_connections = permits;
        if permits != self.versions.limits().max_connections {
            self.permits.want(permits);
            let service = Arc::clone(self);
            // It may have to wait for connections to end.
            self.versions
                .spawn_task(async move { service.permits.resize().await });
        }
        self.admission.set(admission, refused);
        self.versions.set(limits, access_log);
    }
}
