//! The calls of `verify`, `error`, `tick` and `rolling-hand-over`, which a component may
//! export beside its contract.
//!
//! The functions of an instance are in its store, so that whoever has the store can call
//! them. They are the same for WASI 0.2 and 0.3; what differs is whether a call is made from
//! outside of the store's event loop, or inside of it.

use crate::component::{self, Component};
use crate::connection::Connection;
use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::connection_info::{Info, describe};
use crate::guest::deadline::Deadline;
use crate::guest::failure::{self, Failure, root_cause};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::component::{
    Accessor, ComponentExportIndex, ComponentNamedList, ComponentType, Instance, InstancePre, Lift,
    Lower, TypedFunc,
};
use wasmtime::{Result, Store};

/// The version of the interfaces. Compatible ones are found by it too.
const VERSION: &str = "0.1.0";

/// The shortest time between two ticks.
const SHORTEST: Duration = Duration::from_millis(1);

/// A connection that has failed, as the guest is told of it.
#[derive(Clone, ComponentType, Lower)]
#[component(record)]
pub(crate) struct FailedConnection {
    connection: Info,
    fault: WitFault,
    reason: String,
}

/// Whose fault that is.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum WitFault {
    #[component(name = "guest")]
    Guest,
    #[component(name = "host")]
    Host,
    #[component(name = "peer")]
    Peer,
}

impl FailedConnection {
    /// `None` if its addresses are not known any more.
    pub(crate) fn new(connection: &Arc<Connection>, failure: &Failure) -> Option<Self> {
        Some(Self {
            connection: describe(connection).ok()?,
            fault: match failure.fault() {
                failure::Fault::Guest => WitFault::Guest,
                failure::Fault::Host => WitFault::Host,
                failure::Fault::Peer => WitFault::Peer,
            },
            reason: failure.to_string(),
        })
    }
}

/// The places of the functions in each instance of a component.
#[derive(Default)]
pub(super) struct LifeCyclePre {
    verify: Option<ComponentExportIndex>,
    error: Option<ComponentExportIndex>,
    /// `interval` and `tick`.
    tick: Option<(ComponentExportIndex, ComponentExportIndex)>,
    /// `independent` of `rolling-hand-over`.
    independent: Option<ComponentExportIndex>,
}

/// The functions of one instance. Those that it does not export, or that make no sense for
/// its contract, are not there.
#[derive(Clone, Copy, Default)]
pub(super) struct LifeCycle {
    verify: Option<Function<(Info,), (Verdict,)>>,
    error: Option<Function<(FailedConnection,), ()>>,
    interval: Option<Function<(), (u64,)>>,
    tick: Option<Function<(), ()>>,
    independent: Option<Function<(), (bool,)>>,
}

type Function<Params, Results> = TypedFunc<Params, Results>;

/// Whether a peer may come in, or why not.
pub(crate) type Verdict = Result<(), String>;

impl LifeCyclePre {
    /// Finds the functions that the host will call.
    pub(super) fn new(component: &Component, pre: &InstancePre<State>) -> Result<Self> {
        let exports = component.life_cycle();
        let find = |interface: &str, function: &str| {
            let compiled = pre.component();
            let name = format!("{interface}@{VERSION}");
            let instance = compiled.get_export_index(None, &name);
            let found = instance.and_then(|it| compiled.get_export_index(Some(&it), function));
            found.ok_or_else(|| {
                wasmtime::Error::msg(format!("the export `{name}` has no function `{function}`"))
            })
        };
        let when = |is_there: bool, interface, function| {
            is_there.then(|| find(interface, function)).transpose()
        };
        let interval = when(exports.tick, component::TICK, "interval")?;
        let tick = when(exports.tick, component::TICK, "tick")?;
        Ok(Self {
            verify: when(exports.verify, component::VERIFY, "verify")?,
            error: when(exports.error, component::ERROR, "error")?,
            tick: interval.zip(tick),
            independent: when(
                component.may_be_independent(),
                component::ROLLING_HAND_OVER,
                "independent",
            )?,
        })
    }

    /// Whether peers are verified.
    pub(super) fn verifies(&self) -> bool {
        self.verify.is_some()
    }

    /// Whether the handler is told of failures.
    pub(super) fn takes_errors(&self) -> bool {
        self.error.is_some()
    }

    /// Finds the functions in an instance, and keeps them in its store.
    pub(super) fn load(&self, store: &mut Store<State>, instance: &Instance) -> Result<()> {
        let (interval, tick) = self.tick.as_ref().map(|(a, b)| (a, b)).unzip();
        let life_cycle = LifeCycle {
            verify: function(store, instance, self.verify.as_ref())?,
            error: function(store, instance, self.error.as_ref())?,
            interval: function(store, instance, interval)?,
            tick: function(store, instance, tick)?,
            independent: function(store, instance, self.independent.as_ref())?,
        };
        store.data_mut().life_cycle = life_cycle;
        Ok(())
    }
}

fn function<Params, Results>(
    store: &mut Store<State>,
    instance: &Instance,
    place: Option<&ComponentExportIndex>,
) -> Result<Option<Function<Params, Results>>>
where
    Params: ComponentNamedList + Lower,
    Results: ComponentNamedList + Lift,
{
    place
        .map(|place| instance.get_typed_func(&mut *store, place))
        .transpose()
}

/// Asks an instance, which nobody else calls meanwhile, whether a peer may come in. The
/// inner error is its reason why not.
pub(crate) async fn verify(
    store: &mut Store<State>,
    clock: &GuestClock,
    deadline: Deadline,
    connection: &Arc<Connection>,
) -> Result<Verdict, Failure> {
    let Some(function) = store.data().life_cycle.verify else {
        return Ok(Ok(()));
    };
    let info = info(connection)?;
    let (verdict,) = call(store, clock, deadline, function, (info,)).await?;
    Ok(verdict)
}

/// Does the same, inside the event loop of a store. The caller enforces the deadline, from
/// outside of the loop (see [`Deadline::hold`]).
pub(crate) async fn verify_in(
    accessor: &Accessor<State>,
    connection: &Arc<Connection>,
) -> Result<Verdict, Failure> {
    let Some(function) = accessor.with(|mut access| access.get().life_cycle.verify) else {
        return Ok(Ok(()));
    };
    let info = info(connection)?;
    let (verdict,) = call_in(accessor, function, (info,)).await?;
    Ok(verdict)
}

/// Tells an instance, which nobody else calls meanwhile, that a connection has failed.
pub(crate) async fn error(
    store: &mut Store<State>,
    clock: &GuestClock,
    deadline: Deadline,
    failed: FailedConnection,
) -> Result<(), Failure> {
    match store.data().life_cycle.error {
        Some(function) => call(store, clock, deadline, function, (failed,)).await,
        None => Ok(()),
    }
}

/// Does the same, as [`verify_in`] does.
pub(crate) async fn error_in(
    accessor: &Accessor<State>,
    failed: FailedConnection,
) -> Result<(), Failure> {
    match accessor.with(|mut access| access.get().life_cycle.error) {
        Some(function) => call_in(accessor, function, (failed,)).await,
        None => Ok(()),
    }
}

/// Asks an instance how much time is between two ticks. `None` if there are none.
pub(super) async fn interval(
    store: &mut Store<State>,
    clock: &GuestClock,
    deadline: Deadline,
) -> Result<Option<Duration>, Failure> {
    let Some(function) = store.data().life_cycle.interval else {
        return Ok(None);
    };
    let (nanoseconds,) = call(store, clock, deadline, function, ()).await?;
    let interval = Duration::from_nanos(nanoseconds);
    Ok((nanoseconds > 0).then(|| interval.max(SHORTEST)))
}

/// Lets an instance, which nobody else calls meanwhile, do what it does from time to time.
pub(crate) async fn tick(
    store: &mut Store<State>,
    clock: &GuestClock,
    deadline: Deadline,
) -> Result<(), Failure> {
    match store.data().life_cycle.tick {
        Some(function) => call(store, clock, deadline, function, ()).await,
        None => Ok(()),
    }
}

/// Does the same, as [`verify_in`] does.
pub(crate) async fn tick_in(accessor: &Accessor<State>) -> Result<(), Failure> {
    match accessor.with(|mut access| access.get().life_cycle.tick) {
        Some(function) => call_in(accessor, function, ()).await,
        None => Ok(()),
    }
}

/// Asks an instance, which nobody else calls meanwhile, whether its connections are
/// independent of each other.
pub(crate) async fn independent(
    store: &mut Store<State>,
    clock: &GuestClock,
    deadline: Deadline,
) -> Result<bool, Failure> {
    let Some(function) = store.data().life_cycle.independent else {
        return Ok(false);
    };
    let (is_independent,) = call(store, clock, deadline, function, ()).await?;
    Ok(is_independent)
}

/// Does the same, as [`verify_in`] does.
pub(crate) async fn independent_in(accessor: &Accessor<State>) -> Result<bool, Failure> {
    let function = accessor.with(|mut access| access.get().life_cycle.independent);
    let Some(function) = function else {
        return Ok(false);
    };
    let (is_independent,) = call_in(accessor, function, ()).await?;
    Ok(is_independent)
}

fn info(connection: &Arc<Connection>) -> Result<Info, Failure> {
    describe(connection).map_err(|error| Failure::Host(root_cause(&error)))
}

/// Calls a function from outside of the store's event loop. For WASI 0.3 the call runs the
/// loop, and its time-out is outside of it.
async fn call<Params, Results>(
    store: &mut Store<State>,
    clock: &GuestClock,
    deadline: Deadline,
    function: Function<Params, Results>,
    params: Params,
) -> Result<Results, Failure>
where
    Params: ComponentNamedList + Lower + Send + Sync + 'static,
    Results: ComponentNamedList + Lift + Send + Sync + 'static,
{
    let call = pin!(function.call_async(store, params));
    deadline.hold(pin!(clock.count(call))).await
}

/// Calls a function inside the store's event loop.
async fn call_in<Params, Results>(
    accessor: &Accessor<State>,
    function: Function<Params, Results>,
    params: Params,
) -> Result<Results, Failure>
where
    Params: ComponentNamedList + Lower + 'static,
    Results: ComponentNamedList + Lift + Send + Sync + 'static,
{
    let called = function.call_concurrent(accessor, params).await;
    called.map_err(|error| Failure::from_call(&error))
}
