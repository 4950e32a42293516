//! The connections of an instance. The guest's `draining` asks whether one of them is to
//! leave it.

use crate::connection::notice::Notice;
use crate::connection::{Connection, ConnectionId};
use crate::guest::clock::Moved;
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

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

/// The connections of an instance.
pub(crate) struct ConnectionTable {
    served: Served,
}

impl ConnectionTable {
    pub(crate) fn new(served: Served) -> Self {
        Self { served }
    }

    /// Makes a table without connections.
    pub(crate) fn empty() -> Self {
        Self::new(Served::None)
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

    /// Finds a connection by its id. Returns it with what tells its guest that it is to
    /// leave.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<(Weak<Connection>, Arc<Notice>)> {
        let found = |connection: &Arc<Connection>| {
            (Arc::downgrade(connection), Arc::clone(connection.notice()))
        };
        match &self.served {
            Served::None | Served::Datagrams(_) => None,
            Served::One(connection) => (connection.id() == id).then(|| found(connection)),
            Served::All(open) => open.lock().get(&id).map(found),
        }
    }
}
