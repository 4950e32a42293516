//! One instance for all connections, with a call for each: `concurrent`
//! handlers under `poll`.
//!
//! The calls run as tasks of one store's event loop. A trap ends the store and
//! with it every call; the connections are closed, and the next connection gets
//! a new instance.

use crate::dispatch::isolated::outcome;
use crate::guest::State;
use crate::guest::bindings::concurrent::ConcurrentHandler;
use crate::guest::failure::Failure;
use crate::service::version::Version;
use crate::service::{Phase, Shared};
use crate::sockets::connection::{Connection, ConnectionId};
use crate::sockets::push_socket;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;
use wasmtime::component::Accessor;

pub(super) async fn run(
    service: Arc<Shared>,
    version: Arc<Version>,
    intake: mpsc::UnboundedReceiver<Arc<Connection>>,
) {
    let serving = Serving {
        service,
        version,
        open: Mutex::default(),
    };
    serving.run(intake).await;
}

struct Serving {
    service: Arc<Shared>,
    version: Arc<Version>,
    /// The connections of the running instance.
    open: Mutex<HashMap<ConnectionId, Arc<Connection>>>,
}

impl Serving {
    /// Runs one instance after another until nothing more comes.
    async fn run(&self, mut intake: mpsc::UnboundedReceiver<Arc<Connection>>) {
        // An instance is made when there is somebody to serve.
        while let Some(first) = intake.recv().await {
            match self.run_instance(first, &mut intake).await {
                Ok(()) => return,
                Err(failure) => self.fail_all(failure),
            }
        }
    }

    /// Serves until nothing more comes, or the instance dies.
    async fn run_instance(
        &self,
        first: Arc<Connection>,
        intake: &mut mpsc::UnboundedReceiver<Arc<Connection>>,
    ) -> Result<(), Failure> {
        let id = first.id();
        self.open().insert(id, first);
        let serving = async {
            let handler = &self.version.handler;
            let (mut store, clock) = handler.store(self.service.scope(None), None)?;
            let instance = handler.concurrent(&mut store, &clock).await?;
            let serving = store.run_concurrent(async |accessor| {
                let calls = self.calls(accessor, &instance, id, intake);
                clock.between_calls(calls).await
            });
            match clock.count(serving).await {
                Ok(result) => result,
                Err(error) => Err(Failure::from_call(&error)),
            }
        };
        tokio::select! {
            biased;
            result = serving => result,
            () = self.version.reached(Phase::Aborting) => Err(Failure::Aborted),
        }
    }

    /// The store's event loop: takes connections on and sees their calls end.
    async fn calls(
        &self,
        accessor: &Accessor<State>,
        instance: &ConcurrentHandler,
        first: ConnectionId,
        intake: &mut mpsc::UnboundedReceiver<Arc<Connection>>,
    ) -> Result<(), Failure> {
        let call = async |id: ConnectionId| {
            let socket = accessor.with(|mut access| {
                let open = self.open();
                let connection = open
                    .get(&id)
                    .ok_or_else(|| wasmtime::format_err!("connection {id} is not open"))?;
                push_socket(&mut access.get().table, connection)
            });
            let result = match socket {
                Ok(socket) => {
                    instance
                        .sockserve_handler_concurrent()
                        .call_handle(accessor, socket)
                        .await
                }
                Err(error) => Err(error),
            };
            (id, result)
        };
        let mut calls = FuturesUnordered::new();
        calls.push(call(first));
        let mut more = true;
        while more || !calls.is_empty() {
            tokio::select! {
                biased;
                Some((id, result)) = calls.next() => {
                    // A call that died took the instance with it.
                    let result = result.map_err(|error| Failure::from_call(&error))?;
                    self.finish(id, outcome(Ok(result)));
                }
                next = intake.recv(), if more => match next {
                    Some(connection) => {
                        let id = connection.id();
                        self.open().insert(id, connection);
                        calls.push(call(id));
                    }
                    None => more = false,
                },
            }
        }
        Ok(())
    }

    fn finish(&self, id: ConnectionId, outcome: Result<(), Failure>) {
        let Some(connection) = self.open().remove(&id) else {
            return;
        };
        let (service, version) = (Arc::clone(&self.service), Arc::clone(&self.version));
        tokio::spawn(async move { service.finish(&version, connection, outcome).await });
    }

    /// Ends every connection of an instance that is gone.
    fn fail_all(&self, failure: Failure) {
        let open = std::mem::take(&mut *self.open());
        self.service
            .instance_died(&self.version, open.into_values(), failure);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<ConnectionId, Arc<Connection>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
