//! What the poller watches, and how connections leave the driver's list for good.

use super::Turns;
use super::entry::Entry;
use crate::connection::ConnectionId;
use crate::dispatch::save;
use crate::guest::failure::Failure;
use crate::version::entrance::Intake;
use std::sync::Arc;

impl Turns<'_> {
    /// Looks at the connections that asked for attention.
    pub(super) fn settle_asked(&mut self) {
        let mut asked = std::mem::take(&mut self.asked);
        self.attention.take(&mut asked);
        for id in asked.drain(..) {
            let entry = self.open.get(&id);
            if let Some(entry) = entry {
                entry.connection.attention_is_given();
            }
            let cut = entry.and_then(|entry| entry.connection.record().cut());
            if let Some(cut) = cut {
                if self.open.get(&id).is_some_and(|entry| entry.opened) {
                    self.cut.push_back(id);
                }
                self.close(id, Err(Failure::Cut(cut)));
                continue;
            }
            match entry {
                // The guest has no resources of it yet, and nothing is watched.
                Some(entry) if !entry.opened => {}
                Some(entry) if entry.connection.is_released() => {
                    self.close(id, Ok(()));
                }
                Some(_) => self.watch(id),
                None => {}
            }
        }
        self.asked = asked;
    }

    /// Tells the poller what to watch for now. Closes a connection that the poller
    /// refuses.
    pub(super) fn watch(&mut self, id: ConnectionId) {
        let Some(entry) = self.open.get_mut(&id) else {
            return;
        };
        let wanted = entry.wanted();
        let connection = &entry.connection;
        let watching = match entry.watched {
            Some(watched) if watched == wanted => return self.look_again(id),
            Some(_) => self.poller.modify(connection, wanted),
            None => self.poller.add(connection, wanted),
        };
        match watching {
            Ok(()) => {
                entry.watched = Some(wanted);
                self.look_again(id);
            }
            Err(error) => {
                let refused = format!("its readiness cannot be watched: {error}");
                self.close(id, Err(Failure::Host(refused)));
            }
        }
    }

    /// Removes a connection from the poller, if it is there.
    pub(super) fn watch_nothing(&mut self, id: ConnectionId) {
        if let Some(entry) = self.open.get_mut(&id)
            && entry.watched.take().is_some()
        {
            self.poller.remove(&entry.connection);
            entry.forget();
        }
    }

    /// Removes a connection from the driver's list, and closes it in order.
    pub(super) fn close(&mut self, id: ConnectionId, outcome: Result<(), Failure>) {
        let Some(entry) = self.open.remove(&id) else {
            return;
        };
        let is_watched = entry.watched.is_some();
        let admitted = entry.into_admitted();
        // The guest may still hold the connection's resources; they are dead from now on.
        admitted.connection.take_from_guest();
        let connection = Arc::downgrade(&admitted.connection);
        self.versions.finish_beside(admitted, outcome);
        // The close of its descriptor takes a connection out of the poller.
        if is_watched && let Some(connection) = connection.upgrade() {
            self.poller.remove(&connection);
        }
    }

    /// Ends every connection of an instance that died, but first offers those that it
    /// had given up.
    pub(super) fn fail_all(mut self, failure: Failure, intake: &mut Intake) {
        let given_up = self.given_up.take();
        save(self.versions, self.version, given_up, &failure, intake);
        for entry in self.open.values().filter(|entry| entry.watched.is_some()) {
            // The poller outlives the instance, and closing takes a while.
            self.poller.remove(&entry.connection);
        }
        let connections = self.open.into_values().map(Entry::into_admitted);
        self.versions
            .instance_died(self.version, connections, failure);
    }
}
