//! The instance of one connection, or of several, one after another (`--reuse`).

use crate::connection::Connection;
use crate::contract::Contract;
use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::connection_table::{ConnectionTable, Served};
use crate::guest::deadline::Deadline;
use crate::guest::exports::{Blocking, Command, CommandP3, Concurrent};
use crate::guest::failure::Failure;
use crate::guest::hand_over::{ConnectionState, HandOver};
use crate::guest::handler::Handler;
use crate::guest::life_cycle;
use crate::guest::stdio::{Known, Partner, Scope};
use std::pin::pin;
use std::sync::Arc;
use wasmtime::Store;

/// The instance of one connection at a time, and how to call it.
pub(super) struct Instance {
    store: Store<State>,
    clock: GuestClock,
    exports: Exports,
    hand_over: HandOver,
    deadline: Deadline,
    /// For whom the guest writes to its standard streams.
    partner: Partner,
    /// How many connections it may serve after this one.
    remaining: u32,
}

/// The exports of the contract.
enum Exports {
    Blocking(Blocking),
    Concurrent(Concurrent),
    Command(Command),
    CommandP3(CommandP3),
}

impl Instance {
    /// Makes an instance.
    pub(super) async fn new(
        handler: &Handler,
        scope: Scope,
        connection: &Arc<Connection>,
    ) -> Result<Self, Failure> {
        let partner = scope.partner.clone();
        let connection_table = ConnectionTable::new(Served::One(Arc::clone(connection)));
        let (mut store, clock) = handler.store_in_turn(scope, connection_table).await?;
        let (exports, hand_over) = match handler.contract() {
            Contract::Concurrent => {
                let (exports, hand_over) = handler.instantiate(&mut store, &clock).await?;
                (Exports::Concurrent(exports), hand_over)
            }
            Contract::Command => {
                let (exports, hand_over) = handler.instantiate(&mut store, &clock).await?;
                (Exports::Command(exports), hand_over)
            }
            Contract::CommandP3 => {
                let (exports, hand_over) = handler.instantiate(&mut store, &clock).await?;
                (Exports::CommandP3(exports), hand_over)
            }
            // The other contracts do not come here.
            Contract::Blocking
            | Contract::Evented
            | Contract::Datagram
            | Contract::DatagramConcurrent => {
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
            partner,
            remaining: match handler.contract() {
                Contract::Blocking | Contract::Concurrent => {
                    handler.limits().reuse.saturating_sub(1)
                }
                // A program has ended.
                _ => 0,
            },
        })
    }

    /// Begins to serve another connection.
    pub(super) fn begin(&mut self, connection: &Arc<Connection>) {
        let known = Known::Connection(Arc::clone(connection.record()));
        self.exchange(Some(known), Served::One(Arc::clone(connection)));
    }

    /// Lets go of a connection whose handler has returned. Returns the instance if it may
    /// serve another one: the guest holds nothing of this one, and it has not served as many
    /// as it may.
    pub(super) fn finish(mut self, connection: &Connection) -> Option<Self> {
        self.remaining = self.remaining.checked_sub(1)?;
        if !connection.is_released() {
            return None;
        }
        self.exchange(None, Served::None);
        Some(self)
    }

    /// Exchanges the connection everywhere where the instance or the host finds it.
    fn exchange(&mut self, known: Option<Known>, served: Served) {
        self.partner.set(known);
        let moved = self.store.data_mut().serve(served);
        self.clock = GuestClock::install(&mut self.store, self.deadline.0, moved);
    }

    /// Asks the guest whether the peer may come in. The inner error is the guest's reason
    /// why not.
    pub(super) async fn verify(
        &mut self,
        connection: &Arc<Connection>,
    ) -> Result<Result<(), String>, Failure> {
        let (store, clock) = (&mut self.store, &self.clock);
        life_cycle::verify(store, clock, self.deadline, connection).await
    }

    /// Asks the guest to accept a connection that this or another version gave up. The
    /// inner error is the guest's reason to refuse it.
    ///
    /// The call must not take longer than the deadline. Its time-out is outside of
    /// `run_concurrent`, because one that is polled inside may not fire (wasmtime
    /// #11869, #11870).
    pub(super) async fn accept(
        &mut self,
        connection: &Arc<Connection>,
        state: &ConnectionState,
    ) -> Result<Result<(), String>, Failure> {
        let hand_over = &self.hand_over;
        let (store, clock, deadline) = (&mut self.store, &self.clock, self.deadline);
        match &self.exports {
            Exports::Blocking(_) | Exports::Command(_) => {
                hand_over
                    .accept(store, clock, deadline, connection.id(), state)
                    .await
            }
            Exports::Concurrent(_) | Exports::CommandP3(_) => {
                let call = store.run_concurrent(async |accessor| {
                    hand_over.accept_in(accessor, connection.id(), state).await
                });
                deadline.hold(pin!(clock.count(pin!(call)))).await?
            }
        }
    }

    /// Calls the handler. Returns when `handle` has returned, or when the program has
    /// ended.
    pub(super) async fn handle(&mut self, connection: &Arc<Connection>) -> Result<(), Failure> {
        let (store, clock) = (&mut self.store, &self.clock);
        match &self.exports {
            Exports::Blocking(exports) => exports.handle(store, clock, connection).await,
            Exports::Concurrent(exports) => concurrent(store, clock, exports, connection).await,
            Exports::Command(exports) => exports.run(store, clock, connection).await,
            Exports::CommandP3(exports) => exports.run(store, clock).await,
        }
    }

    /// Asks the guest to give the connection up, after its handler has returned. `None`
    /// if it does not. Has the deadline of [`accept`](Self::accept), in the same place.
    pub(super) async fn give_up(
        &mut self,
        connection: &Arc<Connection>,
    ) -> Result<Option<ConnectionState>, Failure> {
        let (store, clock, deadline) = (&mut self.store, &self.clock, self.deadline);
        let (hand_over, id) = (&self.hand_over, connection.id());
        match &self.exports {
            Exports::Blocking(_) | Exports::Command(_) => {
                hand_over.give_up(store, clock, deadline, id).await
            }
            Exports::Concurrent(_) | Exports::CommandP3(_) => {
                let call =
                    store.run_concurrent(async |accessor| hand_over.give_up_in(accessor, id).await);
                deadline.hold(pin!(clock.count(pin!(call)))).await?
            }
        }
    }
}

/// Calls a `concurrent` handler, and meanwhile sends what an earlier version left
/// unsent.
async fn concurrent(
    store: &mut Store<State>,
    clock: &GuestClock,
    exports: &Concurrent,
    connection: &Arc<Connection>,
) -> Result<(), Failure> {
    let call = pin!(store.run_concurrent(async |accessor| {
        let socket = Concurrent::push(accessor, connection)?;
        exports.handle_in(accessor, socket).await
    }));
    // An earlier version on WASI 0.2 may have left output with the host. What is not
    // sent when the call returns is sent when the connection closes.
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
