//! The connections of a service that are open now.

use super::ConnectionId;
use super::peer::Peer;
use super::record::Record;
use super::traffic::Traffic;
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The open connections of a service, and the sums over all that it had.
#[derive(Default)]
pub(crate) struct Roll {
    /// The bytes of all connections, or datagrams.
    pub(crate) traffic: Arc<Traffic>,
    open: Mutex<HashMap<ConnectionId, Arc<Record>>>,
}

impl Roll {
    /// The records of all open connections, oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Record>> {
        let mut all: Vec<_> = lock(&self.open).values().cloned().collect();
        all.sort_unstable_by_key(|record| record.id);
        all
    }

    /// Calls `look` with the record of each open connection, in no order.
    pub(crate) fn for_each(&self, mut look: impl FnMut(&Record)) {
        lock(&self.open).values().for_each(|record| look(record));
    }

    /// The record of an open connection.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<Arc<Record>> {
        lock(&self.open).get(&id).cloned()
    }
}

/// A record on the roll. Dropping this takes it off.
pub(super) struct Enrolled {
    pub(super) record: Arc<Record>,
    roll: Arc<Roll>,
}

impl Enrolled {
    /// Puts a new connection on the roll.
    pub(super) fn new(roll: &Arc<Roll>, id: ConnectionId, peer: Peer) -> Self {
        let record = Arc::new(Record::new(id, peer));
        lock(&roll.open).insert(id, Arc::clone(&record));
        Self {
            record,
            roll: Arc::clone(roll),
        }
    }

    /// Notes bytes read from the peer.
    pub(super) fn add_in(&self, count: usize) {
        self.record.add_in(count);
        self.roll.traffic.add_in(count);
    }

    /// Notes bytes that the kernel has taken.
    pub(super) fn add_out(&self, count: usize) {
        self.record.add_out(count);
        self.roll.traffic.add_out(count);
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        lock(&self.roll.open).remove(&self.record.id);
    }
}
