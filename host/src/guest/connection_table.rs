//! The connections of an instance, and whether they are to leave it. The guest's
//! `draining` asks for both.

use crate::connection::{Connection, ConnectionId};
use crate::guest::clock::Moved;
use crate::lifecycle::VersionNumber;
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use tokio::sync::watch;

/// Connections by their ids.
pub(crate) type Connections = HashMap<ConnectionId, Arc<Connection>>;

/// The open connections of a shared instance.
#[derive(Clone, Default)]
pub(crate) struct OpenConnections(Arc<Mutex<Connections>>);

impl OpenConnections {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Connections> {
        lock(&self.0)
    }
}

/// Which connections an instance serves.
pub(crate) enum Served {
    /// No connections. The instance is only tried, or it is one of `evented`, which
    /// is told in another way.
    None,
    One(Arc<Connection>),
    All(OpenConnections),
    /// Datagrams, of which this counts the bytes that the guest has taken.
    Datagrams(Arc<AtomicU64>),
}

/// The connections of an instance, and whether they are asked to leave.
pub(crate) struct ConnectionTable {
    served: Served,
    /// The version that the connections are to go to. `None` until they are asked
    /// to leave.
    asked: watch::Receiver<Option<VersionNumber>>,
}

impl ConnectionTable {
    pub(crate) fn new(served: Served, asked: watch::Receiver<Option<VersionNumber>>) -> Self {
        Self { served, asked }
    }

    /// Makes a table without connections.
    pub(crate) fn empty() -> Self {
        Self::new(Served::None, watch::Sender::new(None).subscribe())
    }

    /// Exchanges what the instance serves.
    pub(super) fn exchange(&mut self, served: Served) {
        self.served = served;
    }

    /// Returns the connection of an instance that serves only one.
    pub(crate) fn only(&self) -> Option<&Arc<Connection>> {
        match &self.served {
            Served::One(connection) => Some(connection),
            Served::None | Served::All(_) | Served::Datagrams(_) => None,
        }
    }

    /// Returns a function that counts the bytes that the connections have moved,
    /// for the guest's clock.
    pub(crate) fn moved(&self) -> Moved {
        fn bytes(connection: &Arc<Connection>) -> u64 {
            connection.bytes_in() + connection.bytes_out()
        }
        match &self.served {
            Served::None => Moved::Unknown,
            Served::One(connection) => {
                let connection = Arc::clone(connection);
                Moved::Alone(Box::new(move || bytes(&connection)))
            }
            Served::Datagrams(bytes) => {
                let bytes = Arc::clone(bytes);
                Moved::Alone(Box::new(move || bytes.load(Ordering::Relaxed)))
            }
            Served::All(open) => {
                let open = open.clone();
                Moved::Together(Box::new(move || open.lock().values().map(bytes).sum()))
            }
        }
    }

    /// Finds a connection by its id. Returns it with the channel that asks it to
    /// leave.
    pub(crate) fn find(
        &self,
        id: ConnectionId,
    ) -> Option<(Weak<Connection>, watch::Receiver<Option<VersionNumber>>)> {
        let connection = match &self.served {
            Served::None | Served::Datagrams(_) => None,
            Served::One(connection) => (connection.id() == id).then(|| Arc::downgrade(connection)),
            Served::All(open) => open.lock().get(&id).map(Arc::downgrade),
        };
        connection.map(|connection| (connection, self.asked.clone()))
    }
}
