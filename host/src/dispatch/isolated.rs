//! An instance for each connection: `blocking` and `concurrent` handlers under
//! `sequential` and `threaded`, and `blocking` under `poll`.
//!
//! A connection is a task of the runtime. Its guest runs on a fiber, which is
//! suspended wherever the guest waits, so a slow peer costs memory and no
//! thread. The instance lives as long as the call.

use crate::contract::Contract;
use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::failure::Failure;
use crate::guest::handler::Handler;
use crate::service::version::Version;
use crate::service::{Phase, Shared};
use crate::sockets::connection::Connection;
use crate::sockets::{p2, push_socket};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

pub(super) fn spawn(
    service: &Arc<Shared>,
    version: Arc<Version>,
    connection: Arc<Connection>,
    turn: Option<OwnedSemaphorePermit>,
) {
    let serving = Arc::clone(service);
    service.spawn_task(async move {
        let service = serving;
        let outcome = tokio::select! {
            biased;
            outcome = handle(&service, &version.handler, &connection) => outcome,
            () = version.reached(Phase::Aborting) => Err(Failure::Aborted),
        };
        // The next connection need not wait for this one's closing.
        drop(turn);
        service.finish(&version, connection, outcome).await;
    });
}

/// Calls the handler for one connection, in an instance of its own.
async fn handle(
    service: &Shared,
    handler: &Handler,
    connection: &Arc<Connection>,
) -> Result<(), Failure> {
    let scope = service.scope(Some(connection));
    let (store, clock) = handler.store(scope, Some(connection))?;
    match handler.contract() {
        Contract::Concurrent => concurrent(handler, connection, store, &clock).await,
        Contract::Blocking | Contract::Evented => {
            blocking(handler, connection, store, &clock).await
        }
    }
}

async fn blocking(
    handler: &Handler,
    connection: &Arc<Connection>,
    mut store: Store<State>,
    clock: &GuestClock,
) -> Result<(), Failure> {
    let instance = handler.blocking(&mut store, clock).await?;
    let call = async {
        let (socket, input, output) = p2::push(&mut store.data_mut().table, connection)?;
        instance
            .sockserve_handler_blocking()
            .call_handle(&mut store, socket, input, output)
            .await
    };
    let mut call = pin!(call);
    // What the guest has written goes out while it waits for something else.
    let result = std::future::poll_fn(|cx| {
        let result = clock.poll(call.as_mut(), cx);
        if result.is_pending() && connection.has_unsent() {
            // An error is the guest's to see, at its next write.
            let _ = connection.poll_flush(cx);
        }
        result
    });
    outcome(result.await)
}

async fn concurrent(
    handler: &Handler,
    connection: &Arc<Connection>,
    mut store: Store<State>,
    clock: &GuestClock,
) -> Result<(), Failure> {
    let instance = handler.concurrent(&mut store, clock).await?;
    let socket = push_socket(&mut store.data_mut().table, connection)
        .map_err(|error| Failure::from_call(&error))?;
    let call = store.run_concurrent(async |accessor| {
        let handling = instance
            .sockserve_handler_concurrent()
            .call_handle(accessor, socket);
        clock.between_calls(handling).await
    });
    outcome(clock.count(call).await.flatten())
}

/// What a call came to: what the handler returned, or why it died.
pub(super) fn outcome(result: wasmtime::Result<Result<(), String>>) -> Result<(), Failure> {
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(text)) => Err(Failure::Guest(text)),
        Err(error) => Err(Failure::from_call(&error)),
    }
}
