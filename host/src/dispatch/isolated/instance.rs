//! The instance of one connection.

use crate::connection::Connection;
use crate::contract::Contract;
use crate::guest::State;
use crate::guest::bindings::blocking::BlockingHandler;
use crate::guest::bindings::concurrent::ConcurrentHandler;
use crate::guest::clock::GuestClock;
use crate::guest::deadline::Deadline;
use crate::guest::failure::Failure;
use crate::guest::hand_over::{ConnectionState, HandOver};
use crate::guest::handler::Handler;
use crate::guest::roster::{Roster, Tenants};
use crate::guest::stdio::Scope;
use crate::lifecycle::VersionNumber;
use crate::sockets::{p2, push_socket};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::watch;
use wasmtime::Store;

pub(super) struct Instance {
    store: Store<State>,
    clock: GuestClock,
    exports: Exports,
    hand_over: HandOver,
    deadline: Deadline,
}

enum Exports {
    Blocking(BlockingHandler),
    Concurrent(ConcurrentHandler),
}

impl Instance {
    /// `asked` tells it that the connection is to be handed over.
    pub(super) async fn new(
        handler: &Handler,
        scope: Scope,
        connection: &Arc<Connection>,
        asked: watch::Receiver<Option<VersionNumber>>,
    ) -> Result<Self, Failure> {
        let roster = Roster::new(Tenants::One(Arc::clone(connection)), asked);
        let (mut store, clock) = handler.store(scope, roster)?;
        let (exports, hand_over) = match handler.contract() {
            Contract::Concurrent => {
                let (exports, hand_over) = handler.concurrent(&mut store, &clock).await?;
                (Exports::Concurrent(exports), hand_over)
            }
            Contract::Blocking | Contract::Evented => {
                let (exports, hand_over) = handler.blocking(&mut store, &clock).await?;
                (Exports::Blocking(exports), hand_over)
            }
        };
        Ok(Self {
            store,
            clock,
            exports,
            hand_over,
            deadline: Deadline(handler.limits().deadline),
        })
    }

    /// Has the guest take on a connection that it, or another version, gave up.
    /// The inner error is its reason not to.
    pub(super) async fn accept(
        &mut self,
        connection: &Arc<Connection>,
        state: &ConnectionState,
    ) -> Result<Result<(), String>, Failure> {
        let hand_over = &self.hand_over;
        let (store, clock, deadline) = (&mut self.store, &self.clock, self.deadline);
        match &self.exports {
            Exports::Blocking(_) => {
                hand_over
                    .accept(store, clock, deadline, connection.id(), state)
                    .await
            }
            Exports::Concurrent(_) => {
                let call = store.run_concurrent(async |accessor| {
                    hand_over.accept_in(accessor, connection.id(), state).await
                });
                deadline.hold(clock.count(call)).await?
            }
        }
    }

    /// Calls the handler.
    pub(super) async fn handle(&mut self, connection: &Arc<Connection>) -> Result<(), Failure> {
        let (store, clock) = (&mut self.store, &self.clock);
        match &self.exports {
            Exports::Blocking(exports) => blocking(store, clock, exports, connection).await,
            Exports::Concurrent(exports) => concurrent(store, clock, exports, connection).await,
        }
    }

    /// Has the guest give the connection up, after its handler has returned. Nothing
    /// if it does not.
    pub(super) async fn give_up(
        &mut self,
        connection: &Arc<Connection>,
    ) -> Result<Option<ConnectionState>, Failure> {
        let (store, clock, deadline) = (&mut self.store, &self.clock, self.deadline);
        let (hand_over, id) = (&self.hand_over, connection.id());
        match &self.exports {
            Exports::Blocking(_) => hand_over.give_up(store, clock, deadline, id).await,
            Exports::Concurrent(_) => {
                let call =
                    store.run_concurrent(async |accessor| hand_over.give_up_in(accessor, id).await);
                deadline.hold(clock.count(call)).await?
            }
        }
    }
}

async fn blocking(
    store: &mut Store<State>,
    clock: &GuestClock,
    exports: &BlockingHandler,
    connection: &Arc<Connection>,
) -> Result<(), Failure> {
    let call = async {
        let (socket, input, output) = p2::push(&mut store.data_mut().table, connection)?;
        exports
            .sockserve_handler_blocking()
            .call_handle(&mut *store, socket, input, output)
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
    Failure::from_result(result.await)
}

async fn concurrent(
    store: &mut Store<State>,
    clock: &GuestClock,
    exports: &ConcurrentHandler,
    connection: &Arc<Connection>,
) -> Result<(), Failure> {
    let socket = push_socket(&mut store.data_mut().table, connection)
        .map_err(|error| Failure::from_call(&error))?;
    let call = store.run_concurrent(async |accessor| {
        exports
            .sockserve_handler_concurrent()
            .call_handle(accessor, socket)
            .await
    });
    // What a version on WASI 0.2 has left in the host's hands. What is left of it at
    // the end is sent when the connection closes.
    let inherited = async {
        connection.flushed().await;
        std::future::pending::<std::convert::Infallible>().await
    };
    let result = tokio::select! {
        biased;
        result = clock.count(call) => result,
        never = inherited => match never {},
    };
    Failure::from_result(result.flatten())
}
