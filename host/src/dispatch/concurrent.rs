//! One instance for all connections, with a call for each: `concurrent`
//! handlers under `poll`.
//!
//! The calls run as tasks of one store's event loop. A trap ends the store and
//! with it every call; the connections are closed, and the next connection gets
//! a new instance.

use crate::accept::Incoming;
use crate::dispatch::isolated::outcome;
use crate::guest::State;
use crate::guest::bindings::concurrent::ConcurrentHandler;
use crate::guest::failure::Failure;
use crate::service::{Admitted, Phase, Shared};
use crate::sockets::connection::ConnectionId;
use crate::sockets::push_socket;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use wasmtime::component::Accessor;

pub(super) async fn run(service: &Arc<Shared>, listeners: Vec<OwnedFd>) -> io::Result<()> {
    // Bounded by the permits.
    let (deliver, incoming) = mpsc::unbounded_channel();
    let accepting = async {
        let result = service
            .accept(listeners, None, |incoming, _| {
                // The receiver lives as long as this.
                let _ = deliver.send(incoming);
            })
            .await;
        drop(deliver);
        result
    };
    let serving = Serving {
        service,
        open: RefCell::default(),
    };
    let (result, ()) = tokio::join!(accepting, serving.run(incoming));
    result
}

struct Serving<'a> {
    service: &'a Arc<Shared>,
    /// The connections of the running instance. Not touched across a wait.
    open: RefCell<HashMap<ConnectionId, Admitted>>,
}

impl Serving<'_> {
    /// Runs one instance after another until nothing more comes.
    async fn run(&self, mut incoming: mpsc::UnboundedReceiver<Incoming>) {
        // An instance is made when there is somebody to serve.
        while let Some(first) = incoming.recv().await {
            let first = self.service.admit(first, None);
            match self.run_instance(first, &mut incoming).await {
                Ok(()) => return,
                Err(failure) => self.fail_all(&failure),
            }
        }
    }

    /// Serves until nothing more comes, or the instance dies.
    async fn run_instance(
        &self,
        first: Admitted,
        incoming: &mut mpsc::UnboundedReceiver<Incoming>,
    ) -> Result<(), Failure> {
        let id = first.connection.id();
        self.open.borrow_mut().insert(id, first);
        let handler = &self.service.handler;
        let (mut store, clock) = handler.store(self.service.scope(None))?;
        let instance = handler.concurrent(&mut store, &clock).await?;
        let serving = store
            .run_concurrent(async |accessor| self.calls(accessor, &instance, id, incoming).await);
        let mut serving = pin!(clock.count(serving));
        let result = tokio::select! {
            biased;
            result = &mut serving => result,
            () = self.service.reached(Phase::Aborting) => return Err(Failure::Aborted),
        };
        match result {
            Ok(result) => result,
            Err(error) => Err(Failure::from_call(&error)),
        }
    }

    /// The store's event loop: takes connections on and sees their calls end.
    async fn calls(
        &self,
        accessor: &Accessor<State>,
        instance: &ConcurrentHandler,
        first: ConnectionId,
        incoming: &mut mpsc::UnboundedReceiver<Incoming>,
    ) -> Result<(), Failure> {
        let call = async |id: ConnectionId| {
            let socket = accessor.with(|mut access| {
                let open = self.open.borrow();
                let admitted = open
                    .get(&id)
                    .ok_or_else(|| wasmtime::format_err!("connection {id} is not open"))?;
                push_socket(&mut access.get().table, &admitted.connection)
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
                next = incoming.recv(), if more => match next {
                    Some(next) => {
                        let admitted = self.service.admit(next, None);
                        let id = admitted.connection.id();
                        self.open.borrow_mut().insert(id, admitted);
                        calls.push(call(id));
                    }
                    None => more = false,
                },
            }
        }
        Ok(())
    }

    fn finish(&self, id: ConnectionId, outcome: Result<(), Failure>) {
        let Some(admitted) = self.open.borrow_mut().remove(&id) else {
            return;
        };
        let service = Arc::clone(self.service);
        tokio::spawn(async move { service.finish(admitted, outcome).await });
    }

    /// Ends every connection of an instance that is gone.
    fn fail_all(&self, failure: &Failure) {
        let open = std::mem::take(&mut *self.open.borrow_mut());
        self.service.instance_died(open.into_values(), failure);
    }
}
