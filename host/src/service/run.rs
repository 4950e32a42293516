//! A service's thread: from its start to the end of its last connection.

use super::swap::Saved;
use super::{Shared, StartError, threads};
use crate::connection::Connection;
use crate::connection::peer::Peer;
use crate::contract::Dispatch;
use crate::datagram::socket::{Bound, Sockets};
use crate::dispatch::{self, datagram};
use crate::guest::instance::Prepared;
use crate::lifecycle::Phase;
use crate::listen::accept::{self, Accepting};
use crate::listen::local::LocalAddress;
use crate::listen::opening::Opened;
use crate::text;
use crate::version::Version;
use crate::version::succession::Purpose;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot};

/// What a service serves.
#[derive(Debug)]
pub(super) enum Work {
    /// What comes to these sockets.
    Sockets(Vec<Opened>),
    /// One connection. The service ends with it.
    Connection {
        socket: OwnedFd,
        peer: Peer,
        local: LocalAddress,
    },
}

impl Work {
    /// The addresses that it comes to.
    pub(super) fn local_addresses(&self) -> Vec<LocalAddress> {
        match self {
            Self::Sockets(all) => all.iter().map(|opened| opened.local.clone()).collect(),
            Self::Connection { local, .. } => vec![local.clone()],
        }
    }
}

/// How long the runtime's threads may take to be made.
const BUILD_TIMEOUT: Duration = Duration::from_secs(10);

/// The most threads for work of guests that blocks: granted files, and lookups of
/// names. Tokio's default is 512.
const BLOCKING_THREADS: usize = 32;

/// Makes the service's runtime. Under `threaded` it has worker threads; otherwise it
/// runs on the thread that calls `block_on`.
fn runtime(service: &Shared) -> io::Result<Runtime> {
    let mut builder = match service.dispatch {
        Dispatch::Threaded => {
            threads::check(service.versions.limits.workers)?;
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(service.versions.limits.workers);
            builder
        }
        Dispatch::Sequential | Dispatch::Poll => tokio::runtime::Builder::new_current_thread(),
    };
    builder
        .enable_io()
        .enable_time()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name(format!("worker-{}", service.name()))
        .build()
}

/// Gives a service's thread what it serves.
type Begin = oneshot::Sender<Work>;
/// The result of a service.
type Ended = oneshot::Receiver<io::Result<()>>;

impl Shared {
    /// Starts the service's thread, and returns when its handler has been tried.
    ///
    /// The thread serves what it is sent. If nothing is sent it ends. The receiver has the
    /// service's result when the thread is done.
    pub(super) fn spawn(self: Arc<Self>) -> Result<(Begin, Ended), StartError> {
        // The caller may be inside a runtime of its own, so the service's is
        // made, used and dropped on the service's thread.
        let (building, built) = std::sync::mpsc::channel();
        let (starting, started) = std::sync::mpsc::channel();
        let (ending, ended) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let service = Arc::clone(&self);
        std::thread::Builder::new()
            .name(format!("serve-{}", self.name()))
            .spawn(move || {
                let runtime = match runtime(&service) {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(building.send(Err(error))),
                };
                let _ = building.send(Ok(()));
                let versions = &service.versions;
                versions.run_on(runtime.handle().clone());
                let version = versions.current();
                let probed = runtime.block_on(service.try_first(&version));
                let probed = probed.and_then(|()| {
                    dispatch::start(versions, &version).map_err(|error| service.system_error(error))
                });
                version.open_gate();
                let failed = probed.is_err();
                if starting.send(probed).is_err() || failed {
                    return;
                }
                // Not kept while the service runs: the version may be replaced.
                drop(version);
                let Ok(work) = runtime.block_on(begun) else {
                    return;
                };
                let result = runtime.block_on(service.run(work));
                // A worker may still be in a guest's call; this does not wait for it.
                runtime.shutdown_background();
                let _ = ending.send(result);
            })
            .map_err(|error| self.system_error(error))?;
        // If Tokio's builder panics in spite of `threads::check`, the service's thread
        // may unwind forever (tokio-rs/tokio#6167).
        let built = built
            .recv_timeout(BUILD_TIMEOUT)
            .unwrap_or_else(|_| Err(io::Error::other("its threads could not be made")));
        built.map_err(|error| self.system_error(error))?;
        let ended_early = || io::Error::other("its thread ended by a panic");
        started
            .recv()
            .unwrap_or_else(|_| Err(self.system_error(ended_early())))?;
        Ok((begin, ended))
    }

    /// An error of the system at the start.
    fn system_error(&self, error: io::Error) -> StartError {
        let name = self.name().to_owned();
        StartError::System { name, error }
    }

    /// Serves until the service is told to end or a listener fails, and then until the
    /// last connection is closed.
    async fn run(self: Arc<Self>, work: Work) -> io::Result<()> {
        let serving = async {
            let result = match work {
                Work::Sockets(sockets) => self.accept(sockets).await,
                Work::Connection { socket, peer, .. } => self.serve_one(socket, peer).await,
            };
            let all = self.versions.limits.max_connections;
            if self.state_file.is_some() {
                // The instance ends when it has no connections and can get no more. Before
                // that it is asked for what it knows.
                let _ = self.permits.acquire_many(all).await;
                self.keep_state().await?;
            }
            self.versions.current().retire(None);
            let _ = self.permits.acquire_many(all).await;
            result
        };
        let aborting = async {
            self.versions.reached(Phase::Aborting).await;
            if !self.versions.current().handler.contract().takes_datagrams() {
                // An error is that of the service, above.
                let _ = self.keep_state().await;
            }
            for version in self.versions.all() {
                version.abort();
            }
            std::future::pending::<std::convert::Infallible>().await
        };
        let result = tokio::select! {
            result = serving => result,
            never = self.abort_after_drain_timeout() => match never {},
            never = aborting => match never {},
            never = self.judge_versions() => match never {},
        };
        match self.versions.broken() {
            Some(reason) => Err(io::Error::other(reason)),
            None => result,
        }
    }

    /// Tries the first version. If there is a state of an earlier run, makes its instance.
    async fn try_first(&self, version: &Version) -> Result<(), StartError> {
        let scope = || self.versions.scope(None);
        version.handler.try_instantiate(scope()).await?;
        let Some(file) = &self.state_file else {
            return Ok(());
        };
        self.versions.last_state.want();
        if let Some(state) = file.read()? {
            let bytes = state.size();
            let prepared = Prepared::new(&version.handler, scope(), state).await;
            version.prepare(prepared.map_err(|reason| file.refused(reason))?);
            tracing::info!(service = self.name(), file = %text::path(file.path()), bytes, "state taken over");
        }
        Ok(())
    }

    /// Keeps what the instance of the current version knows, at the end of the service.
    async fn keep_state(&self) -> io::Result<()> {
        let Some(file) = &self.state_file else {
            return Ok(());
        };
        let kept = self.kept.get_or_init(async || {
            let current = self.versions.current();
            let state = if !current.handler.keeps_state() {
                Err("the current version has none".to_owned())
            } else if current.handler.contract().takes_datagrams() {
                match self.versions.last_state.take() {
                    Some(saved) => saved.map_err(|failure| failure.to_string()),
                    None => Err("there is no instance that could save it".to_owned()),
                }
            } else {
                let mut departing = current.depart(Purpose::End);
                match self.saved(&current, &mut departing).await {
                    Ok(Saved::State(state)) => Ok(Some(state)),
                    Ok(Saved::Nothing) => Ok(None),
                    Ok(Saved::Died) => Err("there is no instance that could save it".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            };
            let (service, path) = (self.name(), text::path(file.path()));
            match state {
                Ok(state) => {
                    file.write(state.as_ref()).map_err(Arc::new)?;
                    let bytes = state.map(|state| state.size());
                    tracing::info!(service, file = %path, bytes, "state kept");
                }
                Err(reason) => {
                    tracing::warn!(service, file = %path, "state not kept, the file is as it was: {reason}");
                }
            }
            Ok(())
        });
        kept.await.clone().map_err(io::Error::other)
    }

    /// Aborts the service when it has drained for too long. Never returns.
    async fn abort_after_drain_timeout(&self) -> std::convert::Infallible {
        let versions = &self.versions;
        versions.reached(Phase::Draining).await;
        tokio::time::sleep(versions.limits.drain_timeout).await;
        let connections = versions.open();
        tracing::warn!(
            service = self.name(),
            connections,
            "drain timeout, closing what is open"
        );
        versions.enter(Phase::Aborting);
        std::future::pending().await
    }

    /// Accepts on every listener, and delivers each connection. Returns when all accept
    /// loops have ended, with the first listener's error.
    async fn accept(self: &Arc<Self>, listeners: Vec<Opened>) -> io::Result<()> {
        if self.versions.current().handler.contract().takes_datagrams() {
            return self.take_datagrams(listeners).await;
        }
        let turn = match self.dispatch {
            Dispatch::Sequential => Some(Arc::new(Semaphore::new(1))),
            Dispatch::Threaded | Dispatch::Poll => None,
        };
        let accepting = Accepting {
            service: Arc::clone(&self.versions.service),
            traffic: Arc::clone(&self.versions.traffic),
            permits: Arc::clone(&self.permits),
            turn,
            backlog: self.versions.limits.backlog,
        };
        let deliver = |connection, turn| {
            self.accepted.fetch_add(1, Ordering::Relaxed);
            dispatch::deliver(&self.versions, connection, turn);
        };
        let loops = listeners.into_iter().map(|listener| {
            let phases = self.versions.phases();
            accept::run(listener, accepting.clone(), phases, &deliver)
        });
        // When one loop fails, the others still deliver what they have accepted.
        let loops = loops.map(async |accepting| {
            let result = accepting.await;
            if let Err(error) = &result {
                tracing::error!(service = self.name(), %error, "the listener failed");
                self.versions.enter(Phase::Aborting);
            }
            result
        });
        let ended = futures_util::future::join_all(loops).await;
        ended.into_iter().collect()
    }
}

impl Shared {
    /// Delivers one connection.
    async fn serve_one(&self, socket: OwnedFd, peer: Peer) -> io::Result<()> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?.into();
        let versions = &self.versions;
        let traffic = Arc::clone(&versions.traffic);
        let connection = Connection::new(&versions.service, socket, peer, permit, traffic);
        self.accepted.fetch_add(1, Ordering::Relaxed);
        dispatch::deliver(versions, connection, None);
        Ok(())
    }

    /// Serves the datagrams of all sockets, until the service ends or a socket fails.
    async fn take_datagrams(self: &Arc<Self>, sockets: Vec<Opened>) -> io::Result<()> {
        let sockets = sockets.into_iter().map(|opened| Bound {
            socket: opened.socket,
            file: opened.file,
            is_inherited: opened.is_inherited,
        });
        let sockets = sockets.collect();
        let versions = &self.versions;
        let counts = Arc::clone(&versions.datagrams);
        let traffic = Arc::clone(&versions.traffic);
        let sockets = Sockets::new(sockets, self.allow_loops, counts, traffic)?;
        let permits = Arc::clone(&self.permits);
        datagram::run(versions, self.dispatch, Arc::new(sockets), permits).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::connection;
    use crate::guest::failure::Failure;
    use crate::limits::Limits;
    use crate::listen::opening::{ListenOptions, open};
    use crate::service::ServiceOptions;
    use crate::version::stay::tests::HANDLER;
    use tokio::time::Instant;

    fn service() -> Arc<Shared> {
        let handler = Arc::clone(&HANDLER);
        let service = Shared::new(&ServiceOptions::new("run", []), Vec::new(), handler);
        service.versions.run_on(tokio::runtime::Handle::current());
        service
    }

    fn listeners() -> Vec<Opened> {
        let address = "tcp://127.0.0.1:0".parse().unwrap();
        open(&[address], 1, ListenOptions::default()).unwrap()
    }

    /// Drains a service with a connection whose handler does not end. Returns how long
    /// the service takes to end, and how many connections were aborted.
    async fn drained(meanwhile: impl FnOnce(&Shared)) -> (Duration, u64) {
        let service = service();
        let version = service.versions.current();
        // The version has no driver: only an abort ends its connections.
        let (connection, _peer) = connection();
        let held = Arc::clone(&service.permits).try_acquire_owned().unwrap();
        let admitted = version.admit(connection);
        let (versions, aborted) = (Arc::clone(&service.versions), Arc::clone(&version));
        tokio::spawn(async move {
            aborted.reached(Phase::Aborting).await;
            let Ok(admitted) = admitted else {
                panic!("it serves");
            };
            versions.finish(admitted, Err(Failure::Aborted)).await;
            drop(held);
        });
        let begun = Instant::now();
        let running = tokio::spawn(Arc::clone(&service).run(Work::Sockets(listeners())));
        service.versions.enter(Phase::Draining);
        meanwhile(&service);
        running.await.unwrap().unwrap();
        (begun.elapsed(), version.failures().aborted)
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_at_its_timeout_whatever_is_open() {
        let timeout = Limits::default().drain_timeout;
        let (took, aborted) = drained(|_| {}).await;
        assert!((timeout..timeout * 2).contains(&took), "{took:?}");
        assert_eq!(aborted, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_abort_does_not_wait_for_the_drain() {
        let (took, aborted) = drained(|service| service.versions.enter(Phase::Aborting)).await;
        assert!(took < Limits::default().drain_timeout, "{took:?}");
        assert_eq!(aborted, 1);
    }
}
