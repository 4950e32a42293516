//! An instance for each connection: `blocking` and `concurrent` handlers under
//! `sequential` and `threaded`, and `blocking` under `poll`.
//!
//! A connection is a task of the runtime. Its guest runs on a fiber, which is
//! suspended wherever the guest waits, so a slow peer costs memory and no
//! thread. The instance lives as long as the call. A connection that was handed
//! over and comes back gets a new one.

mod instance;

use crate::dispatch::offer;
use crate::guest::failure::Failure;
use crate::guest::hand_over::ConnectionState;
use crate::service::hand_over::{Handed, Offer};
use crate::service::version::Version;
use crate::service::{Phase, Shared};
use crate::sockets::connection::Connection;
use instance::Instance;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// A version, and what one of its connections' tasks needs.
struct Serving {
    service: Arc<Shared>,
    version: Arc<Version>,
}

/// Serves an accepted connection.
pub(super) fn spawn(
    service: &Arc<Shared>,
    version: Arc<Version>,
    connection: Arc<Connection>,
    turn: Option<OwnedSemaphorePermit>,
) {
    let serving = Serving {
        service: Arc::clone(service),
        version,
    };
    service.spawn_task(async move {
        let end = serving.serve(&connection, None).await;
        serving.finish(connection, turn, end).await;
    });
}

/// Serves a connection that another version hands over, if this one takes it.
pub(super) fn spawn_offered(service: &Arc<Shared>, version: Arc<Version>, offer: Offer) {
    let serving = Serving {
        service: Arc::clone(service),
        version,
    };
    service.spawn_task(async move {
        let instance = match serving.open(&offer).await {
            Ok(instance) => instance,
            Err(reason) => return offer.refuse(&reason),
        };
        let Some((connection, turn)) = offer.accept() else {
            return;
        };
        let end = serving.call(instance, &connection).await;
        serving.finish(connection, turn, end).await;
    });
}

impl Serving {
    /// An instance that has accepted the connection that is offered.
    async fn open(&self, offer: &Offer) -> Result<Instance, String> {
        let Some(Handed {
            connection, state, ..
        }) = offer.handed()
        else {
            return Err("it is gone".to_owned());
        };
        let opening = async {
            let mut instance = self.instance(connection).await?;
            let accepted = instance.accept(connection, state).await?;
            Ok((instance, accepted))
        };
        match self.unless_aborted(opening).await {
            Ok((instance, Ok(()))) => Ok(instance),
            Ok((_, Err(reason))) => Err(reason),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Serves a connection from its start, or from `returned` on, which this
    /// version gave up itself.
    async fn serve(
        &self,
        connection: &Arc<Connection>,
        returned: Option<&ConnectionState>,
    ) -> Result<Option<ConnectionState>, Failure> {
        let opening = async {
            let mut instance = self.instance(connection).await?;
            if let Some(state) = returned {
                let accepted = instance.accept(connection, state).await?;
                accepted.map_err(Failure::Refused)?;
            }
            Ok(instance)
        };
        let instance = self.unless_aborted(opening).await?;
        self.call(instance, connection).await
    }

    async fn instance(&self, connection: &Arc<Connection>) -> Result<Instance, Failure> {
        let scope = self.service.scope(Some(connection));
        let asked = self.version.asked();
        Instance::new(&self.version.handler, scope, connection, asked).await
    }

    /// Calls the handler for a connection. The state, if it is to be handed
    /// over.
    async fn call(
        &self,
        mut instance: Instance,
        connection: &Arc<Connection>,
    ) -> Result<Option<ConnectionState>, Failure> {
        self.unless_aborted(instance.handle(connection)).await
    }

    async fn unless_aborted<R>(
        &self,
        work: impl Future<Output = Result<R, Failure>>,
    ) -> Result<R, Failure> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.version.reached(Phase::Aborting) => Err(Failure::Aborted),
        }
    }

    /// Closes a connection that has ended, or hands it over. One that comes back
    /// is served on.
    async fn finish(
        &self,
        mut connection: Arc<Connection>,
        mut turn: Option<OwnedSemaphorePermit>,
        mut end: Result<Option<ConnectionState>, Failure>,
    ) {
        while let Ok(Some(state)) = end {
            if !connection.renew() {
                end = Err(Failure::still_held());
                break;
            }
            let (home, mut returns) = mpsc::unbounded_channel();
            let handed = Handed {
                connection,
                state,
                turn,
            };
            offer(&self.service, &self.version, vec![handed], &home);
            drop(home);
            let Some(handed) = returns.recv().await else {
                return;
            };
            Handed {
                connection,
                turn,
                ..
            } = handed;
            end = if connection.renew() {
                self.serve(&connection, Some(&handed.state)).await
            } else {
                Err(Failure::still_held())
            };
        }
        // The next connection need not wait for this one's closing.
        drop(turn);
        self.service
            .finish(&self.version, connection, end.map(drop))
            .await;
    }
}
