//! The calls of `error` and `tick`: in the instance that serves all, or in instances of their
//! own, one after another.

use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::connection_table::ConnectionTable;
use crate::guest::deadline::{Deadline, Watched};
use crate::guest::exports::Exports;
use crate::guest::failure::{Failure, HostPanic};
use crate::guest::instance::Instance;
use crate::guest::life_cycle;
use crate::lifecycle::Phase;
use crate::panics;
use crate::version::Version;
use crate::version::errands::Errand;
use crate::version::versions::Versions;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use wasmtime::Store;
use wasmtime::component::Accessor;

/// Runs the errands of a version whose connections or datagrams have instances of their own,
/// until the version has ended. Does nothing if there are none.
pub(super) fn start(versions: &Arc<Versions>, version: &Arc<Version>) {
    if !version.has_errands() {
        return;
    }
    let (all, served) = (Arc::clone(versions), Arc::clone(version));
    let ticks = version.begin_ticks();
    version.spawn_task(versions, async move {
        let version = served;
        loop {
            let errand = tokio::select! {
                biased;
                errand = version.next_errand(&all, &ticks) => errand,
                () = version.ended() => return,
            };
            run_alone(&all, &version, errand).await;
        }
    });
}

/// Runs an errand in an instance of its own. Its failure costs nobody anything.
async fn run_alone(versions: &Versions, version: &Version, errand: Errand) {
    let name = match errand {
        Errand::Error(_) => "error",
        Errand::Tick(_) => "tick",
    };
    let mut call = pin!(async {
        let handler = &version.handler;
        let scope = versions.scope(None);
        let (mut store, clock) = handler.store(scope, ConnectionTable::empty())?;
        handler.instantiate_alone(&mut store, &clock).await?;
        let deadline = Deadline(handler.limits().deadline);
        call(&mut store, &clock, deadline, versions, version, errand).await
    });
    let calling = poll_fn(|cx| panics::poll(call.as_mut(), cx));
    let ended = tokio::select! {
        biased;
        ended = calling => ended.unwrap_or_else(|thrown| Err(HostPanic::new(&*thrown).into())),
        () = version.reached(Phase::Aborting) => return,
    };
    if let Err(failure) = ended {
        tracing::warn!(
            service = &*versions.service,
            version = version.number.get(),
            fault = %failure.fault(),
            "`{name}` failed: {failure}"
        );
    }
}

/// Runs an errand in the instance that serves all, which nobody else calls meanwhile.
pub(super) async fn run<E: Exports>(
    versions: &Versions,
    version: &Version,
    instance: &mut Instance<E>,
    errand: Errand,
) -> Result<(), Failure> {
    let Instance {
        store,
        clock,
        deadline,
        ..
    } = instance;
    call(store, clock, *deadline, versions, version, errand).await
}

/// Does the same, inside the event loop of its store.
pub(super) async fn run_in(
    versions: &Versions,
    version: &Version,
    watched: &Watched,
    accessor: &Accessor<State>,
    errand: Errand,
) -> Result<(), Failure> {
    match errand {
        Errand::Tick(ticks) => {
            let ticked = watched.hold(pin!(life_cycle::tick_in(accessor))).await;
            ticks.plan();
            ticked
        }
        Errand::Error(failed) => {
            let telling = version.begin_telling(&versions.service);
            let told = watched
                .hold(pin!(life_cycle::error_in(accessor, *failed)))
                .await;
            telling.end(&told);
            told
        }
    }
}

async fn call(
    store: &mut Store<State>,
    clock: &GuestClock,
    deadline: Deadline,
    versions: &Versions,
    version: &Version,
    errand: Errand,
) -> Result<(), Failure> {
    match errand {
        Errand::Tick(ticks) => {
            let ticked = life_cycle::tick(store, clock, deadline).await;
            ticks.plan();
            ticked
        }
        Errand::Error(failed) => {
            let telling = version.begin_telling(&versions.service);
            let told = life_cycle::error(store, clock, deadline, *failed).await;
            telling.end(&told);
            told
        }
    }
}
