//! A service's connections: taken on, counted, reported, closed.

use super::version::{PROBE, Version};
use super::{Phase, Shared};
use crate::accept::Incoming;
use crate::guest::failure::{Failure, Fault};
use crate::sockets::connection::{Connection, ConnectionId};
use crate::sockets::traffic::Traffic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

impl Shared {
    /// Counts and logs a new connection.
    pub(super) fn admit(&self, incoming: Incoming) -> Arc<Connection> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.take_on(incoming, &self.traffic)
    }

    /// Logs a new connection and gives it its number.
    pub(crate) fn take_on(&self, incoming: Incoming, traffic: &Arc<Traffic>) -> Arc<Connection> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id: ConnectionId = NEXT.fetch_add(1, Ordering::Relaxed);
        let Incoming {
            socket,
            peer,
            permit,
        } = incoming;
        tracing::debug!(service = &*self.name, connection = id, %peer, "connection opened");
        Connection::new(id, socket, peer, permit, Arc::clone(traffic))
    }

    /// Counts and logs how the handler of a connection ended, and closes it.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        version: &Arc<Version>,
        connection: Arc<Connection>,
        outcome: Result<(), Failure>,
    ) {
        let outcome = outcome.map_err(|failure| match failure {
            // The guest reports what the peer did to it.
            Failure::Guest(text) if connection.is_lost() => Failure::Peer(text),
            other => other,
        });
        if let Err(failure) = &outcome {
            self.report(version, &connection, failure);
        }
        self.count(version, &outcome);
        self.close(version, connection).await;
    }

    fn report(&self, version: &Version, connection: &Connection, failure: &Failure) {
        let (service, version) = (&*self.name, version.number);
        let (id, peer, fault) = (connection.id(), connection.peer(), failure.fault());
        if version == PROBE || fault == Fault::Peer {
            // Peers come and go, and whoever asked for a probe gets its result.
            tracing::debug!(service, version, connection = id, %peer, %fault, "connection failed: {failure}");
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
    async fn close(&self, version: &Version, connection: Arc<Connection>) {
        let unsent = tokio::select! {
            biased;
            unsent = connection.close(self.limits.linger) => unsent,
            () = self.reached(Phase::Aborting) => connection.close(Duration::ZERO).await,
        };
        let peer = connection.peer();
        if unsent > 0 {
            tracing::info!(
                service = &*self.name,
                version = version.number,
                connection = connection.id(),
                %peer,
                unsent,
                "connection reset, because the peer did not take all in time"
            );
        }
        tracing::debug!(
            service = &*self.name,
            version = version.number,
            connection = connection.id(),
            %peer,
            bytes_in = connection.bytes_in(),
            bytes_out = connection.bytes_out(),
            "connection closed"
        );
        drop(connection);
        version.closed();
        self.forget_if_ended(version);
    }

    /// Keeps of a version that has ended its sums only.
    pub(crate) fn forget_if_ended(&self, version: &Version) {
        if version.has_ended() {
            self.history().forget_ended();
        }
    }

    /// Closes a connection that no version takes any more.
    pub(crate) async fn close_unserved(&self, connection: Arc<Connection>) {
        tracing::debug!(
            service = &*self.name,
            connection = connection.id(),
            "closed unserved, because the service is ending"
        );
        connection.close(Duration::ZERO).await;
    }

    /// Ends the connections of a shared instance that died.
    pub(crate) fn instance_died(
        self: &Arc<Self>,
        version: &Arc<Version>,
        connections: impl ExactSizeIterator<Item = Arc<Connection>>,
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
        for connection in connections {
            self.count(version, &outcome);
            let (service, version) = (Arc::clone(self), Arc::clone(version));
            self.spawn_task(async move { service.close(&version, connection).await });
        }
    }
}
