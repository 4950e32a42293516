//! The connections of an instance, and whether they are to leave it: what the
//! guest's `draining` asks for.

use crate::connection::{Connection, ConnectionId};
use crate::guest::clock::Moved;
use crate::lifecycle::VersionNumber;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch;

/// Connections by their names.
pub(crate) type Connections = HashMap<ConnectionId, Arc<Connection>>;

/// The connections of a shared instance.
#[derive(Clone, Default)]
pub(crate) struct Open(Arc<Mutex<Connections>>);

impl Open {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whom an instance serves.
pub(crate) enum Tenants {
    /// Nobody: the instance is only tried, or is told in another way.
    None,
    One(Arc<Connection>),
    All(Open),
}

/// The connections of an instance, and the question whether they are to leave.
pub(crate) struct Roster {
    tenants: Tenants,
    /// The version that they are to go to, once they are asked to leave.
    asked: watch::Receiver<Option<VersionNumber>>,
}

impl Roster {
    pub(crate) fn new(tenants: Tenants, asked: watch::Receiver<Option<VersionNumber>>) -> Self {
        Self { tenants, asked }
    }

    /// An instance that serves nobody by name.
    pub(crate) fn empty() -> Self {
        Self::new(Tenants::None, watch::Sender::new(None).subscribe())
    }

    /// How many bytes the connections have moved, for the guest's clock.
    pub(crate) fn moved(&self) -> Moved {
        fn bytes(connection: &Arc<Connection>) -> u64 {
            connection.bytes_in() + connection.bytes_out()
        }
        match &self.tenants {
            Tenants::None => Moved::Unknown,
            Tenants::One(connection) => {
                let connection = Arc::clone(connection);
                Moved::Alone(Box::new(move || bytes(&connection)))
            }
            Tenants::All(open) => {
                let open = open.clone();
                Moved::Together(Box::new(move || open.lock().values().map(bytes).sum()))
            }
        }
    }

    /// A connection by its name, and what tells it to leave.
    pub(crate) fn find(
        &self,
        id: ConnectionId,
    ) -> Option<(Weak<Connection>, watch::Receiver<Option<VersionNumber>>)> {
        let connection = match &self.tenants {
            Tenants::None => None,
            Tenants::One(connection) => (connection.id() == id).then(|| Arc::downgrade(connection)),
            Tenants::All(open) => open.lock().get(&id).map(Arc::downgrade),
        };
        connection.map(|connection| (connection, self.asked.clone()))
    }
}
