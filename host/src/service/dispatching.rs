//! What a dispatch needs of its service: a runtime for its versions, and turns for their
//! connections.

use super::{Shared, threads};
use crate::aside::aside;
use crate::contract::Dispatch;
use crate::guest::handler::Handler;
use crate::service::swap::SwapError;
use crate::version::versions::Versions;
use crate::version::workers::Workers;
use std::io;
use std::sync::Arc;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

/// The most threads for work of guests that blocks: granted files, and lookups of
/// names. Tokio's default is 512.
const BLOCKING_THREADS: usize = 32;

/// The turn of connections under a dispatch. `None` if they need none.
pub(super) fn turn_under(dispatch: Dispatch, versions: &Versions) -> Option<Arc<Semaphore>> {
    match dispatch {
        Dispatch::Sequential => Some(Arc::clone(&versions.turn)),
        Dispatch::Threaded | Dispatch::Poll => None,
    }
}

/// Whether guests run on worker threads.
fn has_workers(dispatch: Dispatch) -> bool {
    match dispatch {
        Dispatch::Threaded => true,
        Dispatch::Sequential | Dispatch::Poll => false,
    }
}

impl Shared {
    /// Makes a runtime for a dispatch. Under `threaded` it has worker threads; otherwise it
    /// runs on the thread that calls `block_on`.
    pub(super) fn runtime(&self, dispatch: Dispatch) -> io::Result<Runtime> {
        let mut builder = if has_workers(dispatch) {
            let workers = self.versions.limits().workers;
            threads::check(workers)?;
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(workers);
            builder
        } else {
            Builder::new_current_thread()
        };
        builder
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name(format!("worker-{}", self.name()))
            .build()
    }

    /// The runtime for a version of `handler`, which is to become current. `None` if the
    /// service's will do. It is made if the current version has none.
    pub(super) async fn workers_for(
        self: &Arc<Self>,
        handler: &Handler,
    ) -> Result<Option<Arc<Workers>>, SwapError> {
        let dispatch = handler.dispatch();
        if has_workers(dispatch) == has_workers(self.first_dispatch) {
            return Ok(None);
        }
        // There are two kinds, and the current version's is not the service's.
        if let Some(workers) = self.versions.current().workers() {
            return Ok(Some(workers));
        }
        let service = Arc::clone(self);
        let name = format!("{dispatch}-{}", self.name());
        let making = aside("workers", move || {
            Workers::start(name, move || service.runtime(dispatch))
        });
        let failed = |error: io::Error| SwapError::Host(error.to_string());
        let made = making.await.map_err(failed)?;
        made.map(Some).map_err(failed)
    }

    /// Makes the event loops of shared instances, beside the one of the service's runtime.
    pub(super) fn make_loops(self: &Arc<Self>) -> io::Result<Vec<Arc<Workers>>> {
        let more = 1..self.versions.limits().loops;
        more.map(|number| {
            let service = Arc::clone(self);
            let name = format!("loop-{number}-{}", self.name());
            Workers::start(name, move || service.runtime(Dispatch::Poll)).map_err(|error| {
                let text = format!("event loop {number}: {error}; lower --loops");
                io::Error::new(error.kind(), text)
            })
        })
        .collect()
    }

    /// Lets connections take turns from now on as a dispatch has it.
    pub(super) fn take_turns(&self, dispatch: Dispatch) {
        self.turns.send_if_modified(|turn| {
            let next = turn_under(dispatch, &self.versions);
            let changes = turn.is_some() != next.is_some();
            if changes {
                *turn = next;
            }
            changes
        });
    }
}
