//! From datagrams to calls of a guest.
//!
//! One loop receives, and asks for the current version before each batch; so a swap is
//! in effect from the next batch on. Nothing is queued: while a guest works, datagrams
//! wait with the kernel.
//!
//! | file | contracts | instances |
//! | --- | --- | --- |
//! | `batches` | `datagram` | one for all, called for each batch |
//! | `streams` | `datagram-concurrent` | one for all, or one per datagram |
//! | `each` | `datagram` | one per datagram |
//!
//! | file | |
//! | --- | --- |
//! | `source` | where datagrams come from, and when no more come |
//! | `ends` | both ends of the streams of a `datagram-concurrent` handler |

mod batches;
mod each;
mod ends;
mod source;
mod streams;

use crate::contract::{Contract, Dispatch};
use crate::datagram::batch::Batch;
use crate::datagram::outbox::Outbox;
use crate::datagram::socket::{Sockets, Wanted};
use crate::dispatch::errands;
use crate::guest::exports::Exports;
use crate::guest::exports::datagram::Answer;
use crate::guest::failure::{Failure, HostPanic};
use crate::guest::handler::Handler;
use crate::guest::instance::{Instance, Links};
use crate::lifecycle::Phase;
use crate::panics;
use crate::socket_name::SocketName;
use crate::version::Version;
use crate::version::errands::{Errand, Ticks};
use crate::version::share::Share;
use crate::version::succession::Departure;
use crate::version::versions::Versions;
use each::Owned;
use rustix::net::SocketAddrAny;
use source::Source;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::{Semaphore, mpsc};

/// What the loops share.
pub(super) struct Serving {
    versions: Arc<Versions>,
    sockets: Arc<Sockets>,
    /// One permit per instance that serves one datagram.
    permits: Arc<Semaphore>,
    /// Closed when nobody has this any more.
    _in_use: mpsc::Sender<Infallible>,
}

/// Serves the datagrams of a service until it ends, or until its sockets fail; that is
/// logged, and aborts the service. Returns when no guest has any.
pub(crate) async fn run(
    versions: &Arc<Versions>,
    dispatch: Dispatch,
    sockets: Arc<Sockets>,
    permits: Arc<Semaphore>,
) -> io::Result<()> {
    let (serving, mut in_use) = Serving::new(versions, sockets, permits);
    let served = serve(&serving, dispatch).await;
    if let Err(error) = &served {
        tracing::error!(service = &*versions.service, %error, "the socket failed");
        versions.enter(Phase::Aborting);
    }
    drop(serving);
    in_use.recv().await;
    served
}

/// Receives until no more will come.
async fn serve(serving: &Arc<Serving>, dispatch: Dispatch) -> io::Result<()> {
    let versions = &serving.versions;
    let mut source = Source::new(versions, Arc::clone(&serving.sockets));
    // A swap can change the contract, and the loops end with it.
    loop {
        let contract = versions.current().handler.contract();
        let more;
        match (contract, dispatch) {
            (Contract::DatagramConcurrent, Dispatch::Poll) => {
                (source, more) = streams::run(serving, source).await?;
            }
            (_, Dispatch::Poll) => more = batches::run(serving, &mut source).await?,
            _ => return each::run(serving, &mut source).await,
        }
        if !more {
            return Ok(());
        }
    }
}

/// Serves one datagram by a version, whichever is current. Others than `sender` are not
/// listened to.
pub(crate) async fn serve_one(
    versions: &Arc<Versions>,
    version: &Arc<Version>,
    sockets: Arc<Sockets>,
    sender: &SocketAddrAny,
) -> io::Result<()> {
    let (serving, _) = Serving::new(versions, sockets, Arc::new(Semaphore::new(1)));
    let sender = SocketName::try_from(sender.clone())?;
    let mut batch = Batch::new();
    let wanted = wanted(&version.handler, 1);
    loop {
        poll_fn(|cx| serving.sockets.poll_receive(cx, &mut batch, &wanted)).await?;
        let Some(datagram) = batch.iter().find(|it| it.ends.peer == sender) else {
            continue;
        };
        let permit = Arc::clone(&serving.permits).acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        if let Some(share) = version.take(1) {
            let datagram = Owned::from(datagram);
            each::one(Arc::clone(&serving), share, datagram, permit).await;
        }
        return Ok(());
    }
}

/// What a wait for datagrams has come to.
enum Arrived {
    /// Some are there.
    Datagrams,
    /// No more will come.
    Nothing,
    /// Another version has become current: they are for that one.
    Replaced,
    /// Somebody asks for what the version's instance knows.
    Departure(Departure),
    /// The guest has something to do beside them.
    Errand(Errand),
}

impl From<bool> for Arrived {
    fn from(received: bool) -> Self {
        if received {
            Self::Datagrams
        } else {
            Self::Nothing
        }
    }
}

/// Passes on what an instance knows, which is at rest. One that cannot save it is dropped.
async fn depart<E: Exports>(
    serving: &Serving,
    version: &Version,
    instance: &mut Option<Instance<E>>,
    departure: Departure,
) {
    let state = match instance {
        Some(instance) => instance.save().await,
        None => Ok(None),
    };
    match state {
        Ok(state) => {
            departure.settle(state).await;
        }
        // Who has asked learns it when the departure is dropped.
        Err(failure) => {
            *instance = None;
            serving.report_death(version, &failure);
        }
    }
}

/// Runs what the guest does beside its datagrams in its instance, which is at rest, and which
/// is made if there is none. One that fails is dropped.
async fn run_errand<E: Exports>(
    serving: &Serving,
    version: &Version,
    instance: &mut Option<Instance<E>>,
    errand: Errand,
) {
    let (versions, handler) = (&serving.versions, &version.handler);
    let kept = &mut *instance;
    let mut call = Box::pin(async move {
        let instance = match kept {
            Some(instance) => instance,
            None => {
                let made = Instance::new(handler, versions.scope(None), Links::default());
                kept.insert(made.await?)
            }
        };
        errands::run(versions, version, instance, errand).await
    });
    let calling = poll_fn(|cx| panics::poll(call.as_mut(), cx));
    let ended = tokio::select! {
        biased;
        ended = calling => ended.unwrap_or_else(|thrown| Err(HostPanic::new(&*thrown).into())),
        () = version.reached(Phase::Aborting) => Err(Failure::Aborted),
    };
    drop(call);
    if let Err(failure) = ended {
        *instance = None;
        serving.report_death(version, &failure);
    }
}

/// As many datagrams as `count` says, as long as the handler takes them.
fn wanted(handler: &Handler, count: usize) -> Wanted {
    Wanted {
        count,
        max_bytes: handler.max_data_bytes(),
    }
}

impl Serving {
    /// The receiver is told when nobody has it any more.
    fn new(
        versions: &Arc<Versions>,
        sockets: Arc<Sockets>,
        permits: Arc<Semaphore>,
    ) -> (Arc<Self>, mpsc::Receiver<Infallible>) {
        let (sender, receiver) = mpsc::channel(1);
        let serving = Arc::new(Self {
            versions: Arc::clone(versions),
            sockets,
            permits,
            _in_use: sender,
        });
        (serving, receiver)
    }

    /// Puts what a guest wants to be sent into the outbox, if it may be sent.
    fn post(
        &self,
        outbox: &mut Outbox,
        handler: &Handler,
        answers: impl IntoIterator<Item = Answer>,
    ) {
        outbox.extend(&self.sockets, answers, |peer| handler.may_send_to(peer));
    }

    /// Sends what is in the outbox. Returns false if the service aborts before that.
    async fn send(&self, outbox: &mut Outbox) -> bool {
        if outbox.is_empty() {
            return true;
        }
        tokio::select! {
            biased;
            () = poll_fn(|cx| outbox.poll_send(cx, &self.sockets)) => true,
            () = self.versions.reached(Phase::Aborting) => false,
        }
    }

    /// Receives at most `count` datagrams for a version, which has these ticks.
    async fn receive(
        &self,
        source: &mut Source,
        version: &Version,
        ticks: &Arc<Ticks>,
        count: usize,
    ) -> io::Result<Arrived> {
        let wanted = wanted(&version.handler, count);
        // Otherwise `errands` has a task of its own.
        let has_errands = version.handler.shares_instance() && version.has_errands();
        // Under load the wait below is never reached.
        if has_errands && let Some(tick) = ticks.take_due() {
            return Ok(Arrived::Errand(tick));
        }
        if version.is_serving() {
            // Without the wait for another version, which takes some time to set up.
            let first = poll_fn(|cx| Poll::Ready(source.poll_next(cx, &wanted))).await;
            if let Poll::Ready(received) = first {
                return received.map(Arrived::from);
            }
        }
        tokio::select! {
            biased;
            () = version.reached(Phase::Draining), if self.versions.is_serving() => {
                Ok(Arrived::Replaced)
            }
            departure = version.departing(), if version.handler.keeps_state() => {
                Ok(Arrived::Departure(departure))
            }
            errand = version.next_errand(&self.versions, ticks), if has_errands => {
                Ok(Arrived::Errand(errand))
            }
            received = source.next(&wanted) => received.map(Arrived::from),
        }
    }

    /// Counts a datagram on the version that is current. `None` if the service is ending.
    fn take_one(&self) -> Option<Share> {
        loop {
            let current = self.versions.current();
            let share = current.take(1);
            if share.is_some() || self.versions.is_current(&current) {
                return share;
            }
        }
    }

    /// Keeps what an instance knows at the end of the service, if somebody wants it.
    async fn keep_last<E: Exports>(&self, instance: Option<Instance<E>>) {
        let last = &self.versions.last_state;
        if let Some(mut instance) = instance
            && last.is_wanted()
        {
            last.keep(instance.save().await);
        }
    }

    /// Logs that an instance died which had no datagrams.
    fn report_death(&self, version: &Version, failure: &Failure) {
        tracing::warn!(
            service = &*self.versions.service,
            version = version.number.get(),
            fault = %failure.fault(),
            "instance died: {failure}"
        );
        self.versions.report_lost_state(version, failure);
    }

    /// Counts and logs how the guest's call for datagrams ended.
    fn finish(&self, share: Share, outcome: &Result<(), Failure>) {
        let version = share.version();
        if let Err(failure) = outcome {
            let (service, number) = (&*self.versions.service, version.number.get());
            let (datagrams, fault) = (share.count(), failure.fault());
            if version.is_probe() || matches!(failure, Failure::Aborted) {
                tracing::debug!(service, version = number, datagrams, %fault, "datagrams failed: {failure}");
            } else {
                tracing::warn!(service, version = number, datagrams, %fault, "datagrams failed: {failure}");
            }
        }
        if let Err(failure) = outcome
            && !matches!(failure, Failure::Guest(_))
        {
            self.versions.report_lost_state(version, failure);
        }
        let version = Arc::clone(version);
        share.end(outcome);
        self.versions.forget_if_ended(&version);
    }
}
