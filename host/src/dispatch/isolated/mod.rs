//! An instance per connection: `blocking` and `concurrent` handlers under `sequential`
//! and `threaded`, and `blocking` under `poll`.
//!
//! Each connection is a task of the runtime. Its guest runs on a fiber, which is
//! suspended wherever the guest waits, so a slow peer costs memory and no thread. The
//! instance lives as long as its calls; with `--reuse` it then serves other connections, one
//! after another, if it has returned and holds nothing of the last one. A connection that was
//! given up and comes back gets another instance.

mod instance;

use crate::connection::Connection;
use crate::contract::Dispatch;
use crate::dispatch::{fault, offer};
use crate::guest::failure::Failure;
use crate::guest::hand_over::ConnectionState;
use crate::lifecycle::Phase;
use crate::version::Version;
use crate::version::asking::Listed;
use crate::version::offer::{Handed, Offer, Room};
use crate::version::stay::Admitted;
use crate::version::versions::Versions;
use instance::Instance;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// What the task of a connection needs.
struct Serving {
    versions: Arc<Versions>,
    version: Arc<Version>,
}

/// A state that an instance gave its connection up with, and the room that it takes.
struct Given {
    state: ConnectionState,
    room: Option<Room>,
}

/// Starts the task of an accepted connection.
pub(super) fn spawn(
    versions: &Arc<Versions>,
    admitted: Admitted,
    turn: Option<OwnedSemaphorePermit>,
) {
    let serving = Serving {
        versions: Arc::clone(versions),
        version: Arc::clone(admitted.stay.version()),
    };
    let version = Arc::clone(&serving.version);
    version.spawn_task(versions, async move {
        fault::point(&serving.versions.service);
        let listed = serving.version.enlist(&admitted.connection);
        let (turn, end) = match serving.turn(&admitted.connection, turn).await {
            Ok(turn) => {
                // In a box: what a call of a guest takes would be moved with the task.
                let served = Box::pin(serving.serve(&admitted.connection, None));
                (turn, served.await)
            }
            Err(failure) => (None, Err(failure)),
        };
        serving.finish(admitted, listed, turn, end).await;
    });
}

/// Starts the task of an offered connection, which refuses the offer or serves the
/// connection.
pub(super) fn spawn_offered(versions: &Arc<Versions>, version: Arc<Version>, offer: Offer) {
    let serving = Serving {
        versions: Arc::clone(versions),
        version: Arc::clone(&version),
    };
    version.spawn_task(versions, async move {
        let instance = match serving.open(&offer).await {
            Ok(instance) => instance,
            Err(reason) => return offer.refuse(&reason),
        };
        let Some((admitted, turn)) = offer.accept() else {
            return;
        };
        let listed = serving.version.enlist(&admitted.connection);
        // Under another dispatch it needs none any more.
        let is_sequential = serving.version.handler.dispatch() == Dispatch::Sequential;
        let turn = turn.filter(|_| is_sequential);
        let end = serving.call(instance, &admitted.connection).await;
        serving.finish(admitted, listed, turn, end).await;
    });
}

impl Serving {
    /// Makes an instance and asks it to accept the connection that is offered. The
    /// error is the reason to refuse the offer.
    async fn open(&self, offer: &Offer) -> Result<Instance, String> {
        let Some(Handed {
            admitted, state, ..
        }) = offer.handed()
        else {
            return Err("it is gone".to_owned());
        };
        let connection = &admitted.connection;
        let opening = async {
            let mut instance = self.instance(connection).await?;
            let accepted = instance.accept(connection, state).await?;
            Ok((instance, accepted))
        };
        match self.unless_ended(connection, opening).await {
            Ok((instance, Ok(()))) => Ok(instance),
            Ok((_, Err(reason))) => Err(reason),
            Err(failure) => Err(failure.to_string()),
        }
    }

    /// Serves a connection, from its start or, with `returned`, from the state that
    /// this version gave up itself. Returns as [`call`](Self::call) does.
    async fn serve(
        &self,
        connection: &Arc<Connection>,
        returned: Option<Given>,
    ) -> Result<Option<Given>, Failure> {
        let opening = async move {
            let mut instance = self.instance(connection).await?;
            if let Some(Given { state, .. }) = &returned {
                let accepted = instance.accept(connection, state).await?;
                accepted.map_err(Failure::RefusedBack)?;
            } else if self.version.verifies() {
                let verdict = instance.verify(connection).await?;
                verdict.map_err(Failure::Unverified)?;
            }
            // The guest has the state; the host drops its copy.
            drop(returned);
            Ok(instance)
        };
        let instance = self.unless_ended(connection, pin!(opening)).await?;
        self.call(instance, connection).await
    }

    /// Waits for the turn of a connection that was accepted under another dispatch, just
    /// before this one became `sequential`. The others have theirs, or need none.
    async fn turn(
        &self,
        connection: &Connection,
        turn: Option<OwnedSemaphorePermit>,
    ) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        let version = &self.version;
        let is_sequential = version.handler.dispatch() == Dispatch::Sequential;
        if turn.is_some() || !is_sequential || version.is_probe() {
            return Ok(turn);
        }
        let taking = async {
            let taken = Arc::clone(&self.versions.turn).acquire_owned().await;
            taken
                .map(Some)
                .map_err(|error| Failure::Host(error.to_string()))
        };
        self.unless_ended(connection, taking).await
    }

    /// Takes an idle instance for a connection, or makes one.
    async fn instance(&self, connection: &Arc<Connection>) -> Result<Instance, Failure> {
        if let Some(mut instance) = self.version.idle.take::<Instance>() {
            instance.begin(connection);
            return Ok(instance);
        }
        let scope = self.versions.scope(Some(connection));
        Instance::new(&self.version.handler, scope, connection).await
    }

    /// Calls the handler for a connection. Returns the state if the connection is to be
    /// handed over, and `None` if it is done.
    async fn call(
        &self,
        mut instance: Instance,
        connection: &Arc<Connection>,
    ) -> Result<Option<Given>, Failure> {
        let calling = async {
            let calls = &self.versions.calls;
            let returned = calls.measure(pin!(instance.handle(connection))).await;
            if !connection.was_told() {
                if matches!(returned, Ok(()) | Err(Failure::Guest(_)))
                    && let Some(instance) = instance.finish(connection)
                {
                    self.version.idle.put(instance, &self.versions.memory);
                }
                return returned.map(|()| None);
            }
            returned?;
            let mut room = Room::reserve(&self.versions.states).await;
            let state = instance.give_up(connection).await?;
            Ok(state.map(|state| {
                if let Some(room) = &mut room {
                    room.shrink(state.size());
                }
                Given { state, room }
            }))
        };
        self.unless_ended(connection, pin!(calling)).await
    }

    /// Waits for `work`. Gives it up when the version aborts, or when the host is to end
    /// the connection.
    async fn unless_ended<R>(
        &self,
        connection: &Connection,
        work: impl Future<Output = Result<R, Failure>>,
    ) -> Result<R, Failure> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.version.reached(Phase::Aborting) => Err(Failure::Aborted),
            cut = connection.record().ended() => Err(Failure::Cut(cut)),
        }
    }

    /// Closes a connection that has ended, or offers it if its handler has given it up.
    /// If the connection comes back, serves it again. Returns when it is closed or
    /// handed over.
    async fn finish(
        &self,
        mut admitted: Admitted,
        listed: Listed,
        mut turn: Option<OwnedSemaphorePermit>,
        mut end: Result<Option<Given>, Failure>,
    ) {
        while let Ok(Some(Given { state, room })) = end {
            if !admitted.connection.renew() {
                end = Err(Failure::still_held());
                break;
            }
            let (home, mut returns) = mpsc::unbounded_channel();
            let handed = Handed {
                admitted,
                state,
                turn,
                room,
            };
            offer(&self.versions, vec![handed], &home);
            drop(home);
            let Some(handed) = returns.recv().await else {
                return;
            };
            let (state, room);
            Handed {
                admitted,
                turn,
                state,
                room,
            } = handed;
            end = if admitted.connection.renew() {
                listed.come_back(&admitted.connection);
                let given = Given { state, room };
                Box::pin(self.serve(&admitted.connection, Some(given))).await
            } else {
                Err(Failure::still_held())
            };
        }
        // The next connection need not wait for this one's closing.
        drop((turn, listed));
        self.versions.finish(admitted, end.map(drop)).await;
    }
}
