//! The instance of one connection.

use crate::connection::Connection;
use crate::contract::Contract;
use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::deadline::Deadline;
use crate::guest::exports::{Blocking, Concurrent};
use crate::guest::failure::Failure;
use crate::guest::hand_over::{ConnectionState, HandOver};
use crate::guest::handler::Handler;
use crate::guest::roster::{Roster, Tenants};
use crate::guest::stdio::Scope;
use crate::lifecycle::VersionNumber;
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
    Blocking(Blocking),
    Concurrent(Concurrent),
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
                let (exports, hand_over) = handler.instantiate(&mut store, &clock).await?;
                (Exports::Concurrent(exports), hand_over)
            }
            Contract::Blocking | Contract::Evented => {
                let (exports, hand_over) = handler.instantiate(&mut store, &clock).await?;
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
            Exports::Blocking(exports) => exports.handle(store, clock, connection).await,
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

async fn concurrent(
    store: &mut Store<State>,
    clock: &GuestClock,
    exports: &Concurrent,
    connection: &Arc<Connection>,
) -> Result<(), Failure> {
    let call = store.run_concurrent(async |accessor| {
        let socket = Concurrent::push(accessor, connection)?;
        exports.handle_in(accessor, socket).await
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
    match result {
        Ok(returned) => returned?.map_err(Failure::Guest),
        Err(error) => Err(Failure::from_call(&error)),
    }
}
