//! A runtime beside that of a service: for versions whose dispatch needs another one, with
//! worker threads or with a single thread, and for further event loops of shared instances.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;

/// How long the threads of a runtime may take to be made.
const BUILD_TIMEOUT: Duration = Duration::from_secs(10);

/// A runtime that lasts as long as a version has it. Each connection of a version has the
/// version, so no connection outlives the runtime that its socket is registered with.
pub(crate) struct Workers {
    handle: Handle,
    /// When this is dropped, the runtime's own thread shuts it down. So that never happens
    /// inside of a task.
    _stop: oneshot::Sender<Infallible>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").finish_non_exhaustive()
    }
}

impl Workers {
    /// Makes a runtime by `build`, on a thread with this name. Waits until it is there.
    pub(crate) fn start(
        name: String,
        build: impl FnOnce() -> io::Result<Runtime> + Send + 'static,
    ) -> io::Result<Arc<Self>> {
        let (building, built) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<Infallible>();
        std::thread::Builder::new().name(name).spawn(move || {
            let runtime = match build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(building.send(Err(error))),
            };
            let _ = building.send(Ok(runtime.handle().clone()));
            // An error, when the last version is gone. A runtime with a single thread
            // works here until then.
            let _ = runtime.block_on(stopped);
            // A worker may still be in a guest's call; this does not wait for it.
            runtime.shutdown_background();
        })?;
        let late = |_| Err(io::Error::other("its threads could not be made"));
        let handle = built.recv_timeout(BUILD_TIMEOUT).unwrap_or_else(late)?;
        Ok(Arc::new(Self {
            handle,
            _stop: stop,
        }))
    }

    /// Runs a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Calls `make` inside the runtime, so that `make` can register descriptors with its
    /// poller.
    pub(crate) fn in_runtime<R>(&self, make: impl FnOnce() -> R) -> R {
        let _entered = self.handle.enter();
        make()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Builder;

    #[test]
    fn a_runtime_ends_with_its_last_user_also_inside_of_a_task() {
        for is_multi in [false, true] {
            let build = move || {
                let mut builder = if is_multi {
                    Builder::new_multi_thread()
                } else {
                    Builder::new_current_thread()
                };
                builder.enable_all().build()
            };
            let workers = Workers::start("workers".to_owned(), build).unwrap();
            let (sender, receiver) = mpsc::channel::<()>();
            let user = Arc::clone(&workers);
            workers.spawn(async move {
                sender.send(()).unwrap();
                tokio::task::yield_now().await;
                drop(user);
                // The task goes with the runtime.
                std::future::pending::<()>().await;
                drop(sender);
            });
            receiver.recv().unwrap();
            drop(workers);
            // The task was dropped, and its sender with it.
            assert!(receiver.recv_timeout(Duration::from_secs(60)).is_err());
        }
    }

    #[test]
    fn an_error_of_the_system_is_passed_on() {
        let refused = || Err(io::ErrorKind::WouldBlock.into());
        let error = Workers::start("workers".to_owned(), refused).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
