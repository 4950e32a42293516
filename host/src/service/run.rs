//! A service's thread: from its start to the end of its last connection.

use super::swap::Saved;
use super::{Shared, StartError};
use crate::connection::Connection;
use crate::connection::peer::Peer;
use crate::datagram::socket::{Bound, Gate, Sockets};
use crate::dispatch::{self, datagram};
use crate::guest::instance::Prepared;
use crate::lifecycle::Phase;
use crate::listen::accept::{self, Accepting};
use crate::listen::local::LocalAddress;
use crate::listen::opening::Opened;
use crate::service::listeners::Entering;
use crate::text;
use crate::version::Version;
use crate::version::succession::Purpose;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

/// What a service is started with. From here to [`Work`].
pub(super) enum Incoming {
    /// What comes to these sockets.
    Sockets(Vec<Opened>),
    /// One connection. The service ends with it.
    Connection {
        socket: OwnedFd,
        peer: Peer,
        local: LocalAddress,
    },
}

/// What a service serves.
#[derive(Debug)]
pub(super) enum Work {
    /// The connections that come to its listeners.
    Listeners,
    /// The datagrams that come to these sockets.
    Datagrams(Vec<Opened>),
    /// One connection. The service ends with it.
    Connection { socket: OwnedFd, peer: Peer },
}

impl Incoming {
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
                let runtime = match service.runtime(service.first_dispatch) {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(building.send(Err(error))),
                };
                let _ = building.send(Ok(()));
                let versions = &service.versions;
                versions.run_on(runtime.handle().clone());
                match service.make_loops() {
                    Ok(loops) => versions.loop_on(loops),
                    Err(error) => {
                        return drop(starting.send(Err(service.system_error(error))));
                    }
                }
                let version = versions.current();
                let probed = runtime.block_on(service.try_first(&version));
                let probed = probed.and_then(|()| {
                    dispatch::start(versions, &version).map_err(|error| service.system_error(error))
                });
                version.open_gate();
                let failed = probed.is_err();
                if starting.send(probed).is_err() || failed {
                    versions.loop_on(Vec::new());
                    return;
                }
                // Not kept while the service runs: the version may be replaced.
                drop(version);
                let Ok(work) = runtime.block_on(begun) else {
                    versions.loop_on(Vec::new());
                    return;
                };
                let result = runtime.block_on(Arc::clone(&service).run(work));
                versions.loop_on(Vec::new());
                // A worker may still be in a guest's call; this does not wait for it.
                runtime.shutdown_background();
                service.over.send_replace(true);
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
                Work::Listeners => self.accept().await,
                Work::Datagrams(sockets) => self.take_datagrams(sockets).await,
                Work::Connection { socket, peer } => self.serve_one(socket, peer).await,
            };
            if self.state_file.is_some() {
                // The instance ends when it has no connections and can get no more. Before
                // that it is asked for what it knows.
                self.permits.all_back().await;
                self.keep_state().await?;
                self.versions.retire_all();
                return result;
            }
            self.versions.retire_all();
            self.permits.all_back().await;
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
            never = self.enforce_timeouts() => match never {},
            never = self.drain_when_spent() => match never {},
            never = self.drain_when_idle() => match never {},
            never = self.admission.report() => match never {},
            never = self.sample() => match never {},
        };
        self.admission.report_rest();
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
        tokio::time::sleep(versions.limits().drain_timeout).await;
        let connections = versions.open();
        tracing::warn!(
            service = self.name(),
            connections,
            "drain timeout, closing what is open"
        );
        versions.enter(Phase::Aborting);
        std::future::pending().await
    }

    /// Drains the service when it has taken what it was to take. Never returns.
    async fn drain_when_spent(&self) -> std::convert::Infallible {
        self.quota.spent().await;
        tracing::info!(
            service = self.name(),
            "draining, because it has taken what it was to take"
        );
        self.versions.enter(Phase::Draining);
        std::future::pending().await
    }

    /// Accepts on every listener, also those that are added, and delivers each connection.
    /// Returns when all accept loops have ended, with the first listener's error.
    async fn accept(self: &Arc<Self>) -> io::Result<()> {
        let Some(mut entering) = self.listeners.accepting() else {
            return Err(io::Error::other("the listeners are accepted on already"));
        };
        let accepting = Accepting {
            service: Arc::clone(&self.versions.service),
            roll: Arc::clone(&self.versions.roll),
            admission: Arc::clone(&self.admission),
            quota: Arc::clone(&self.quota),
            turns: self.turns.subscribe(),
            suspended: self.versions.suspended(),
            backlog: self.versions.limits().backlog,
        };
        let mut phases = self.versions.phases();
        // Tasks of the runtime, so that a connection is served where it was accepted, and no
        // thread has to be woken for it.
        let mut loops = JoinSet::new();
        let mut result = Ok(());
        loop {
            // One that came in the meantime has to know it too.
            self.listeners.enter(*phases.borrow_and_update());
            tokio::select! {
                biased;
                Some(entering) = entering.recv() => {
                    let accepting = accepting.clone();
                    loops.spawn(Arc::clone(self).accept_on(entering, accepting));
                }
                Some(ended) = loops.join_next() => result = result.and(joined(ended)),
                _ = phases.changed() => {}
            }
            if loops.is_empty() && entering.is_empty() && !self.versions.is_serving() {
                return result;
            }
        }
    }

    /// Accepts on one listener, and delivers each connection. If the listener fails, the
    /// loops of the others still deliver what they have accepted.
    async fn accept_on(
        self: Arc<Self>,
        entering: Entering,
        accepting: Accepting,
    ) -> io::Result<()> {
        let Entering {
            opened,
            given_away,
            phase,
        } = entering;
        let deliver = |connection, turn| {
            self.accepted.fetch_add(1, Ordering::Relaxed);
            dispatch::deliver(&self.versions, connection, turn);
        };
        let result = accept::run(opened, &given_away, accepting, phase, deliver).await;
        if let Err(error) = &result {
            tracing::error!(service = self.name(), %error, "the listener failed");
            self.versions.enter(Phase::Aborting);
        }
        result
    }
}

/// The result of an accept loop. A panic of it is one of the service.
fn joined(ended: Result<io::Result<()>, JoinError>) -> io::Result<()> {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(cancelled)) => Err(io::Error::other(cancelled)),
    }
}

impl Shared {
    /// Delivers one connection.
    async fn serve_one(&self, socket: OwnedFd, peer: Peer) -> io::Result<()> {
        let permit = self.permits.semaphore().acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?.into();
        let versions = &self.versions;
        let roll = &versions.roll;
        let connection = Connection::new(&versions.service, socket, peer, permit, roll);
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
        let traffic = Arc::clone(&versions.roll.traffic);
        let admission = Arc::clone(&self.admission);
        let gate = Gate {
            may_loop: self.allow_loops,
            lets_in: Box::new(move |sender| admission.admits_datagram(sender)),
            quota: Arc::clone(&self.quota),
        };
        let sockets = Sockets::new(sockets, gate, counts, traffic)?;
        let permits = self.permits.semaphore();
        datagram::run(versions, self.first_dispatch, Arc::new(sockets), permits).await
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
    use crate::service::listeners::Listeners;
    use crate::version::stay::tests::HANDLER;
    use tokio::time::Instant;

    fn service() -> Arc<Shared> {
        let handler = Arc::clone(&HANDLER);
        let service = Shared::new(
            &ServiceOptions::new("run", []),
            Listeners::new(listeners()),
            handler,
        );
        service.versions.run_on(tokio::runtime::Handle::current());
        service
    }

    fn listeners() -> Vec<Opened> {
        let address = "tcp://127.0.0.1:0".parse().unwrap();
        open(&[address], 1, ListenOptions::default(), &[]).unwrap()
    }

    /// Drains a service with a connection whose handler does not end. Returns how long
    /// the service takes to end, and how many connections were aborted.
    async fn drained(meanwhile: impl FnOnce(&Shared)) -> (Duration, u64) {
        let service = service();
        let version = service.versions.current();
        // The version has no driver: only an abort ends its connections.
        let (connection, _peer) = connection();
        let held = service.permits.semaphore().try_acquire_owned().unwrap();
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
        let running = tokio::spawn(Arc::clone(&service).run(Work::Listeners));
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
