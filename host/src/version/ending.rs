//! The end of a connection: counted, reported, closed in order.

use crate::connection::Connection;
use crate::connection::record::Cut;
use crate::guest::failure::{Failure, Fault, HostPanic};
use crate::lifecycle::Phase;
use crate::panics;
use crate::version::Version;
use crate::version::stay::Admitted;
use crate::version::versions::Versions;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

impl Versions {
    /// Counts and logs how the handler of a connection ended, and closes the
    /// connection. Returns when it is closed.
    pub(crate) async fn finish(&self, mut admitted: Admitted, outcome: Result<(), Failure>) {
        let Admitted { connection, .. } = &admitted;
        connection.take_from_guest();
        connection.record().begin_closing();
        // A handler on WASI 0.2 may have left output with the host. Whether the peer
        // takes it is known only after the close.
        let is_decided = outcome.is_err() || !connection.has_unsent();
        if is_decided {
            self.end(&mut admitted, outcome);
            self.close(&admitted).await;
        } else {
            admitted.stay.begin_closing();
            let unsent = self.close(&admitted).await;
            let cut = || Failure::Peer("ok, before the peer had taken all".to_owned());
            let outcome = if unsent > 0 { Err(cut()) } else { outcome };
            self.end(&mut admitted, outcome);
        }
        self.let_go(admitted);
    }

    /// Does the same for a driver of many connections, which does not wait for it: most peers
    /// have closed first, and then all is done when this returns. Otherwise a task goes on.
    pub(crate) fn finish_beside(
        self: &Arc<Self>,
        admitted: Admitted,
        outcome: Result<(), Failure>,
    ) {
        let versions = Arc::clone(self);
        let mut finishing = Box::pin(async move { versions.finish(admitted, outcome).await });
        let mut nobody = Context::from_waker(Waker::noop());
        // A panic costs this connection only, as it does in a task.
        match panics::poll(finishing.as_mut(), &mut nobody) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(thrown)) => tracing::error!("{}", HostPanic::new(&*thrown)),
            // The task polls it again, with its own waker.
            Poll::Pending => drop(tokio::spawn(finishing)),
        }
    }

    /// Counts and logs how the handler of a connection ended.
    fn end(&self, admitted: &mut Admitted, outcome: Result<(), Failure>) {
        let Admitted { connection, stay } = admitted;
        // The handler may have ended without the read or write that would have met the
        // error.
        connection.note_error();
        let outcome = attribute(outcome, connection);
        if let Err(failure) = &outcome {
            self.report(stay.version(), connection, failure);
            stay.version()
                .note_failure(&self.service, connection, failure);
        }
        stay.end(&outcome);
    }

    /// Logs that a connection has failed.
    fn report(&self, version: &Version, connection: &Connection, failure: &Failure) {
        let (service, number) = (&*self.service, version.number.get());
        let (id, peer, fault) = (connection.id(), connection.peer(), failure.fault());
        if let Failure::Unverified(_) = failure {
            tracing::debug!(service, version = number, connection = id, %peer, "connection refused: {failure}");
        } else if version.is_probe() || fault == Fault::Peer {
            // A peer's failure is nothing to warn of, and a probe reports its result
            // itself.
            tracing::debug!(service, version = number, connection = id, %peer, %fault, "connection failed: {failure}");
        } else if let Some(reason) = asked_for(failure) {
            // What the host was asked to do is no failure of the handler.
            tracing::info!(service, version = number, connection = id, %peer, "connection cut off: {reason}");
        } else {
            tracing::warn!(service, version = number, connection = id, %peer, %fault, "connection failed: {failure}");
        }
    }

    /// Closes a connection in order, and at once when the service aborts. Returns how
    /// many bytes were not sent.
    async fn close(&self, admitted: &Admitted) -> usize {
        let Admitted { connection, stay } = admitted;
        let linger = match connection.record().cut() {
            Some(Cut::Write(_)) => {
                // It has had its time, and what the kernel holds for it must not stay.
                connection.reset_at_close();
                Duration::ZERO
            }
            _ => self.limits().close_timeout,
        };
        let unsent = tokio::select! {
            biased;
            unsent = connection.close(linger) => unsent,
            () = self.reached(Phase::Aborting) => connection.close(Duration::ZERO).await,
            () = connection.record().killed() => connection.close(Duration::ZERO).await,
        };
        if unsent > 0 {
            tracing::info!(
                service = &*self.service,
                version = stay.version().number.get(),
                connection = connection.id(),
                peer = %connection.peer(),
                unsent,
                "connection reset, because the peer did not take all in time"
            );
        }
        unsent
    }

    /// Gives back the descriptor and the permit of a closed connection.
    fn let_go(&self, admitted: Admitted) {
        let Admitted { connection, stay } = admitted;
        let version = Arc::clone(stay.version());
        tracing::debug!(
            service = &*self.service,
            version = version.number.get(),
            connection = connection.id(),
            peer = %connection.peer(),
            bytes_in = connection.bytes_in(),
            bytes_out = connection.bytes_out(),
            "connection closed"
        );
        let admitted = Admitted { connection, stay };
        self.access_log().write(&self.service, &admitted);
        drop(admitted);
        self.forget_if_ended(&version);
    }

    /// Closes a connection that no version takes, and counts it as aborted.
    pub(crate) async fn close_unserved(&self, connection: Arc<Connection>) {
        tracing::debug!(
            service = &*self.service,
            connection = connection.id(),
            "closed unserved, because the service is ending"
        );
        self.history().failures.aborted += 1;
        connection.close(Duration::ZERO).await;
    }

    /// Logs that an instance took with it what it knew. That it died is a line of its own.
    pub(crate) fn report_lost_state(&self, version: &Version, failure: &Failure) {
        if version.handler.keeps_state() && !matches!(failure, Failure::Aborted) {
            let (service, version) = (&*self.service, version.number.get());
            tracing::info!(service, version, "what the instance knew is gone with it");
        }
    }

    /// Counts datagrams that no version takes, because the service is ending.
    pub(crate) fn lose(&self, datagrams: usize) {
        self.history().failures.aborted += datagrams as u64;
    }

    /// Counts, logs and closes the connections of a shared instance that died.
    pub(crate) fn instance_died(
        self: &Arc<Self>,
        version: &Version,
        connections: impl ExactSizeIterator<Item = Admitted>,
        failure: Failure,
    ) {
        let (service, number) = (&*self.service, version.number.get());
        let (connections_open, fault) = (connections.len(), failure.fault());
        let ends_quietly = connections_open == 0 && matches!(failure, Failure::Aborted);
        if version.is_probe() || ends_quietly {
            // A probe aborts its own version; and an instance ends when it has saved what it
            // knows, at the service's end.
            tracing::debug!(service, version = number, connections = connections_open, %fault, "instance died and its connections are closed: {failure}");
        } else if let Some(reason) = asked_for(&failure) {
            // What the host was asked to do is no failure of the handler.
            tracing::info!(
                service,
                version = number,
                connections = connections_open,
                "connections cut off: {reason}"
            );
        } else {
            tracing::warn!(service, version = number, connections = connections_open, %fault, "instance died and its connections are closed: {failure}");
            self.report_lost_state(version, &failure);
        }
        let outcome = Err(failure);
        for mut admitted in connections {
            admitted.connection.take_from_guest();
            admitted.connection.record().begin_closing();
            if let Err(failure) = &outcome {
                version.note_failure(&self.service, &admitted.connection, failure);
            }
            admitted.stay.end(&outcome);
            let service = Arc::clone(self);
            self.spawn_task(async move {
                service.close(&admitted).await;
                service.let_go(admitted);
            });
        }
    }
}

/// Why the host has ended a connection that its handler had not. `None` for a failure.
fn asked_for(failure: &Failure) -> Option<String> {
    match failure {
        Failure::Aborted => Some("the service or its version is ending".to_owned()),
        Failure::Cut(cut) => Some(cut.to_string()),
        _ => None,
    }
}

/// Attributes a failure. If the peer reset the connection, or the network lost it, that
/// is the cause, whatever the handler returned: some contracts show it to the handler
/// as an error, some as the end of file.
fn attribute(outcome: Result<(), Failure>, connection: &Connection) -> Result<(), Failure> {
    match outcome {
        Ok(()) if connection.is_lost() => Err(Failure::Peer("ok".to_owned())),
        Err(Failure::Guest(text)) if connection.is_lost() => Err(Failure::Peer(text)),
        other => other,
    }
}
