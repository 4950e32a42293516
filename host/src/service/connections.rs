//! A service's connections: taken on, counted, reported, closed.

use super::version::Version;
use super::{Admitted, Phase, Shared};
use crate::accept::Incoming;
use crate::guest::failure::{Failure, Fault};
use crate::sockets::connection::{Connection, ConnectionId};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

impl Shared {
    /// Counts and logs a new connection.
    pub(super) fn admit(&self, incoming: Incoming) -> Admitted {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.take_on(incoming)
    }

    /// Logs a new connection and gives it its number.
    pub(crate) fn take_on(&self, incoming: Incoming) -> Admitted {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id: ConnectionId = NEXT.fetch_add(1, Ordering::Relaxed);
        let Incoming {
            socket,
            peer,
            permit,
        } = incoming;
        tracing::debug!(service = &*self.name, connection = id, %peer, "connection opened");
        let traffic = Arc::clone(&self.traffic);
        Admitted {
            connection: Connection::new(id, socket, peer, traffic),
            permit,
        }
    }

    /// Counts and logs how the handler of a connection ended, and closes it.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        version: &Arc<Version>,
        admitted: Admitted,
        outcome: Result<(), Failure>,
    ) {
        let outcome = outcome.map_err(|failure| match failure {
            // The guest reports what the peer did to it.
            Failure::Guest(text) if admitted.connection.is_lost() => Failure::Peer(text),
            other => other,
        });
        if let Err(failure) = &outcome {
            self.report(version, &admitted.connection, failure);
        }
        self.count(version, &outcome);
        self.close(version, admitted).await;
    }

    fn report(&self, version: &Version, connection: &Connection, failure: &Failure) {
        let (service, version) = (&*self.name, version.number);
        let (id, peer, fault) = (connection.id(), connection.peer(), failure.fault());
        if fault == Fault::Peer {
            // Peers come and go; nobody has to look into it.
            tracing::info!(service, version, connection = id, %peer, %fault, "connection failed: {failure}");
        } else {
            tracing::warn!(service, version, connection = id, %peer, %fault, "connection failed: {failure}");
        }
    }

    fn count(self: &Arc<Self>, version: &Arc<Version>, outcome: &Result<(), Failure>) {
        version.count(outcome);
        if outcome.is_err() {
            self.consider_rollback(version);
        }
    }

    /// Closes a connection in order, and gives its permit back.
    async fn close(&self, version: &Version, admitted: Admitted) {
        let Admitted { connection, permit } = admitted;
        tokio::select! {
            biased;
            () = connection.close(self.limits.linger) => {}
            () = self.reached(Phase::Aborting) => connection.close(Duration::ZERO).await,
        }
        let peer = connection.peer();
        tracing::debug!(
            service = &*self.name,
            version = version.number,
            connection = connection.id(),
            %peer,
            bytes_in = connection.bytes_in(),
            bytes_out = connection.bytes_out(),
            "connection closed"
        );
        // The descriptor goes first, so that the permit stands for it.
        drop(connection);
        version.closed();
        drop(permit);
    }

    /// Closes a connection that no version takes any more.
    pub(crate) async fn close_unserved(&self, admitted: Admitted) {
        tracing::debug!(
            service = &*self.name,
            connection = admitted.connection.id(),
            "closed unserved, because the service is ending"
        );
        admitted.connection.close(Duration::ZERO).await;
    }

    /// Ends the connections of a shared instance that died.
    pub(crate) fn instance_died(
        self: &Arc<Self>,
        version: &Arc<Version>,
        connections: impl ExactSizeIterator<Item = Admitted>,
        failure: Failure,
    ) {
        let fault = failure.fault();
        tracing::warn!(
            service = &*self.name,
            version = version.number,
            connections = connections.len(),
            %fault,
            "instance died and its connections are closed: {failure}"
        );
        let outcome = Err(failure);
        for admitted in connections {
            self.count(version, &outcome);
            let (service, version) = (Arc::clone(self), Arc::clone(version));
            self.spawn_task(async move { service.close(&version, admitted).await });
        }
    }
}
