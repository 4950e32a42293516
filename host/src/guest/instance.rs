//! An instance that serves all connections or all datagrams, with its store.

use crate::contract::Contract;
use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::connection_table::{ConnectionTable, OpenConnections, Served};
use crate::guest::deadline::Deadline;
use crate::guest::exports::{Concurrent, Datagram, DatagramConcurrent, Evented, Exports};
use crate::guest::failure::Failure;
use crate::guest::hand_over::HandOver;
use crate::guest::handler::Handler;
use crate::guest::instance_state::{InstanceState, Keeper};
use crate::guest::stdio::{Partner, Scope};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use wasmtime::Store;

/// An instance that serves all: its store, and the functions of the contract `E` and of
/// the interfaces beside it.
pub(crate) struct Instance<E> {
    pub(crate) store: Store<State>,
    pub(crate) clock: GuestClock,
    pub(crate) exports: E,
    pub(crate) hand_over: HandOver,
    pub(crate) keeper: Keeper,
    /// For calls that must not wait.
    pub(crate) deadline: Deadline,
    pub(crate) links: Links,
    /// For whom the guest writes to its standard streams.
    pub(crate) partner: Partner,
}

/// What an instance and its driver both look at. Which of it is in use, the contract
/// decides.
#[derive(Clone, Default)]
pub(crate) struct Links {
    /// The connections that the instance serves.
    pub(crate) open: OpenConnections,
    /// Bytes of datagrams that the guest has taken and given, for its clock.
    pub(crate) bytes: Arc<AtomicU64>,
}

impl<E: Exports> Instance<E> {
    /// Makes an instance for all. Its output is logged under `scope`.
    pub(crate) async fn new(
        handler: &Handler,
        scope: Scope,
        links: Links,
    ) -> Result<Self, Failure> {
        let table = match handler.contract() {
            Contract::Concurrent => ConnectionTable::new(Served::All(links.open.clone())),
            Contract::DatagramConcurrent => {
                let served = Served::Datagrams(Arc::clone(&links.bytes));
                ConnectionTable::new(served)
            }
            // `evented` is told in another way.
            Contract::Evented
            | Contract::Datagram
            | Contract::Blocking
            | Contract::Command
            | Contract::CommandP3 => ConnectionTable::empty(),
        };
        let partner = scope.partner.clone();
        let (mut store, clock) = handler.store(scope, table)?;
        let made = handler.instantiate_for_all(&mut store, &clock).await?;
        let (exports, hand_over, keeper) = made;
        Ok(Self {
            store,
            clock,
            exports,
            hand_over,
            keeper,
            deadline: Deadline(handler.limits().deadline),
            links,
            partner,
        })
    }

    /// Makes an instance that begins with what another has saved. The inner error is the
    /// guest's reason to refuse it.
    async fn restored(
        handler: &Handler,
        scope: Scope,
        state: InstanceState,
    ) -> Result<Result<Self, String>, Failure> {
        let mut made = Self::new(handler, scope, Links::default()).await?;
        let Self {
            store,
            clock,
            keeper,
            deadline,
            ..
        } = &mut made;
        let restored = keeper.restore(store, clock, *deadline, state).await?;
        Ok(restored.map(|()| made))
    }

    /// Asks the guest for what it knows. `None` if there is nothing to pass on.
    pub(crate) async fn save(&mut self) -> Result<Option<InstanceState>, Failure> {
        let Self {
            store,
            clock,
            keeper,
            deadline,
            ..
        } = self;
        keeper.save(store, clock, *deadline).await
    }
}

/// An instance that was made before its driver needs it, because it begins with a state
/// that its guest may refuse. It has the contract of its handler.
pub(crate) struct Prepared(Box<dyn Any + Send>);

impl Prepared {
    /// Makes an instance of `handler` that begins with what another has saved. The error
    /// says why there is none.
    pub(crate) async fn new(
        handler: &Handler,
        scope: Scope,
        state: InstanceState,
    ) -> Result<Self, String> {
        match handler.contract() {
            Contract::Evented => Self::of::<Evented>(handler, scope, state).await,
            Contract::Concurrent => Self::of::<Concurrent>(handler, scope, state).await,
            Contract::Datagram => Self::of::<Datagram>(handler, scope, state).await,
            Contract::DatagramConcurrent => {
                Self::of::<DatagramConcurrent>(handler, scope, state).await
            }
            // They have no instance for all.
            Contract::Blocking | Contract::Command | Contract::CommandP3 => {
                Err(format!("the contract is {}", handler.contract()))
            }
        }
    }

    async fn of<E: Exports + Send + 'static>(
        handler: &Handler,
        scope: Scope,
        state: InstanceState,
    ) -> Result<Self, String> {
        let made = Instance::<E>::restored(handler, scope, state).await;
        let made = made.map_err(|failure| failure.to_string())??;
        Ok(Self(Box::new(made)))
    }

    /// The instance. `None` if it has another contract.
    pub(crate) fn instance<E: 'static>(self) -> Option<Instance<E>> {
        self.0.downcast().ok().map(|instance| *instance)
    }
}
