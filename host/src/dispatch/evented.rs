//! One instance for all connections, called for each batch of readiness events:
//! `evented` handlers under `poll`.
//!
//! A turn costs by the connections in it and not by those that are open. A turn
//! that waits or computes past the deadline, or traps, ends the instance; its
//! connections are closed, and the next connection gets a new one.

use crate::accept::Incoming;
use crate::dispatch::poller::Poller;
use crate::guest::State;
use crate::guest::bindings::evented::EventedHandler;
use crate::guest::bindings::evented::exports::sockserve::handler::evented::{
    Change, Event, Interest, Opened, Readiness, Ready,
};
use crate::guest::clock::{DeadlineExceeded, GuestClock};
use crate::guest::failure::Failure;
use crate::service::{Admitted, Phase, Shared};
use crate::sockets::attention::Attention;
use crate::sockets::connection::ConnectionId;
use crate::sockets::p2;
use rustix::event::epoll::EventFlags;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wasmtime::Store;

/// The most events of one turn. The contract says so.
const MAX_EVENTS: usize = 1024;

pub(super) async fn run(service: &Arc<Shared>, listeners: Vec<OwnedFd>) -> io::Result<()> {
    // Bounded by the permits.
    let (deliver, incoming) = mpsc::unbounded_channel();
    let accepting = async {
        let result = service
            .accept(listeners, None, |incoming, _| {
                // The receiver lives as long as this.
                let _ = deliver.send(incoming);
            })
            .await;
        drop(deliver);
        result
    };
    let (accepted, served) = tokio::join!(accepting, serve(service, incoming));
    accepted.and(served)
}

/// Runs one instance after another until nothing more comes.
async fn serve(
    service: &Arc<Shared>,
    mut incoming: mpsc::UnboundedReceiver<Incoming>,
) -> io::Result<()> {
    // An instance is made when there is somebody to serve.
    while let Some(first) = incoming.recv().await {
        let attention = Arc::<Attention>::default();
        let mut turns = Turns {
            service,
            poller: Poller::new()?,
            open: HashMap::new(),
            events: Vec::new(),
            asked: Vec::new(),
            attention,
            tick_at: None,
        };
        match turns.run(first, &mut incoming).await {
            Ok(()) => return Ok(()),
            Err(Ended::Instance(failure)) => {
                service.instance_died(
                    turns.open.into_values().map(|entry| entry.admitted),
                    &failure,
                );
            }
            Err(Ended::Host(error)) => return Err(error),
        }
    }
    Ok(())
}

/// Why an instance serves no longer.
enum Ended {
    Instance(Failure),
    /// The host's poller failed; there is no point in another instance.
    Host(io::Error),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Instance(failure)
    }
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

/// One instance and its connections.
struct Turns<'a> {
    service: &'a Arc<Shared>,
    poller: Poller,
    open: HashMap<ConnectionId, Entry>,
    /// The next turn.
    events: Vec<Event>,
    attention: Arc<Attention>,
    /// Room for the list of those who asked for it.
    asked: Vec<ConnectionId>,
    tick_at: Option<Instant>,
}

struct Entry {
    admitted: Admitted,
    /// What the guest wants to be woken for.
    interest: Interest,
    /// What the poller watches for: the interest, and room for what the kernel
    /// has not taken yet. Nothing if the connection is not in the poller.
    watched: Option<EventFlags>,
}

/// What goes on in a wait.
enum Wake {
    Ready,
    Incoming(Option<Incoming>),
    Tick,
}

impl Turns<'_> {
    /// Serves until nothing more comes, the service aborts, or the instance
    /// dies.
    async fn run(
        &mut self,
        first: Incoming,
        incoming: &mut mpsc::UnboundedReceiver<Incoming>,
    ) -> Result<(), Ended> {
        // Before the instance is made, so that its failure is this peer's too.
        let first = self.admit(first)?;
        let service = self.service;
        tokio::select! {
            biased;
            () = service.reached(Phase::Aborting) => Err(Failure::Aborted.into()),
            result = self.serve(first, incoming) => result,
        }
    }

    async fn serve(
        &mut self,
        first: ConnectionId,
        incoming: &mut mpsc::UnboundedReceiver<Incoming>,
    ) -> Result<(), Ended> {
        let handler = &self.service.handler;
        let (mut store, clock) = handler.store(self.service.scope(None))?;
        let instance = handler.evented(&mut store, &clock).await?;
        self.push_opened(&mut store, first)?;
        let mut more = true;
        loop {
            self.turn(&instance, &mut store, &clock).await?;
            while self.events.is_empty() {
                if !more && self.open.is_empty() {
                    return Ok(());
                }
                match self.wait(incoming, more).await? {
                    Wake::Ready => {}
                    Wake::Tick => self.events.push(Event::Tick),
                    Wake::Incoming(None) => more = false,
                    Wake::Incoming(Some(next)) => {
                        let id = self.admit(next)?;
                        self.push_opened(&mut store, id)?;
                        while self.events.len() < MAX_EVENTS
                            && let Ok(next) = incoming.try_recv()
                        {
                            let id = self.admit(next)?;
                            self.push_opened(&mut store, id)?;
                        }
                    }
                }
            }
        }
    }

    /// Waits for something to have a turn about. Events of connections are put
    /// on the list.
    async fn wait(
        &mut self,
        incoming: &mut mpsc::UnboundedReceiver<Incoming>,
        more: bool,
    ) -> io::Result<Wake> {
        let tick_at = self.tick_at;
        let tick = async {
            match tick_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let ready = tokio::select! {
            biased;
            () = tick => {
                self.tick_at = None;
                return Ok(Wake::Tick);
            }
            next = incoming.recv(), if more => return Ok(Wake::Incoming(next)),
            ready = self.poller.wait() => ready?,
        };
        let mut at_rest = Vec::new();
        for (id, flags) in ready {
            let Some(entry) = self.open.get_mut(&id) else {
                continue;
            };
            let readiness = entry.readiness(flags);
            if readiness == Readiness::empty() {
                continue;
            }
            if entry.interest == Interest::empty() {
                at_rest.push(id);
            }
            self.events.push(Event::Ready(Ready {
                connection: id,
                readiness,
            }));
        }
        for id in at_rest {
            // Hang-up and error are told once to a connection at rest; epoll
            // would tell them without end.
            self.watch_nothing(id)?;
        }
        self.settle_asked()?;
        Ok(Wake::Ready)
    }

    fn admit(&mut self, incoming: Incoming) -> io::Result<ConnectionId> {
        let attention = Some(Arc::clone(&self.attention));
        let admitted = self.service.admit(incoming, attention);
        let id = admitted.connection.id();
        let interest = Interest::READABLE;
        let watched = Some(EventFlags::IN);
        self.poller.add(&admitted.connection, EventFlags::IN)?;
        let entry = Entry {
            admitted,
            interest,
            watched,
        };
        self.open.insert(id, entry);
        Ok(id)
    }

    fn push_opened(&mut self, store: &mut Store<State>, id: ConnectionId) -> Result<(), Failure> {
        let Some(entry) = self.open.get(&id) else {
            return Ok(());
        };
        let table = &mut store.data_mut().table;
        let (socket, input, output) = p2::push(table, &entry.admitted.connection)
            .map_err(|error| Failure::from_call(&error))?;
        self.events.push(Event::Opened(Opened {
            connection: id,
            socket,
            input,
            output,
        }));
        Ok(())
    }

    /// Calls the guest with the events on the list and does what it says.
    async fn turn(
        &mut self,
        instance: &EventedHandler,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> Result<(), Ended> {
        let changes = self.call(instance, store, clock).await?;
        self.events.clear();
        for change in changes {
            match change {
                Change::Interest(change) => {
                    if let Some(entry) = self.open.get_mut(&change.connection) {
                        entry.interest = change.interest;
                        self.watch(change.connection)?;
                    }
                }
                Change::Close(id) => self.close(id, Ok(()))?,
                Change::Fail(failed) => {
                    self.close(failed.connection, Err(Failure::Guest(failed.reason)))?;
                }
                Change::TickAfter(nanoseconds) => {
                    self.tick_at = Instant::now().checked_add(Duration::from_nanos(nanoseconds));
                }
            }
        }
        self.settle_asked()?;
        Ok(())
    }

    async fn call(
        &self,
        instance: &EventedHandler,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> Result<Vec<Change>, Failure> {
        let deadline = self.service.handler.limits().deadline;
        let call = instance
            .sockserve_handler_evented()
            .call_turn(store, &self.events);
        let mut call = pin!(clock.count(call));
        // Most turns are done at once and need no timer.
        let result = match futures_util::poll!(&mut call) {
            Poll::Ready(result) => result,
            Poll::Pending => tokio::select! {
                biased;
                result = &mut call => result,
                () = tokio::time::sleep(deadline) => {
                    return Err(DeadlineExceeded(deadline).into());
                }
            },
        };
        result.map_err(|error| Failure::from_call(&error))
    }

    /// Sees to the connections that asked for attention.
    fn settle_asked(&mut self) -> io::Result<()> {
        let mut asked = std::mem::take(&mut self.asked);
        self.attention.take(&mut asked);
        for id in asked.drain(..) {
            match self.open.get(&id) {
                Some(entry) if entry.admitted.connection.is_released() => {
                    self.close(id, Ok(()))?;
                }
                Some(_) => self.watch(id)?,
                None => {}
            }
        }
        self.asked = asked;
        Ok(())
    }

    /// Has the poller watch for what the connection needs now.
    fn watch(&mut self, id: ConnectionId) -> io::Result<()> {
        let Some(entry) = self.open.get_mut(&id) else {
            return Ok(());
        };
        let wanted = entry.wanted();
        let connection = &entry.admitted.connection;
        match entry.watched {
            Some(watched) if watched == wanted => return Ok(()),
            Some(_) => self.poller.modify(connection, wanted)?,
            None => self.poller.add(connection, wanted)?,
        }
        entry.watched = Some(wanted);
        Ok(())
    }

    fn watch_nothing(&mut self, id: ConnectionId) -> io::Result<()> {
        if let Some(entry) = self.open.get_mut(&id)
            && entry.watched.take().is_some()
        {
            self.poller.remove(&entry.admitted.connection)?;
        }
        Ok(())
    }

    /// Lets a connection go, to be closed in order.
    fn close(&mut self, id: ConnectionId, outcome: Result<(), Failure>) -> io::Result<()> {
        self.watch_nothing(id)?;
        if let Some(entry) = self.open.remove(&id) {
            let service = Arc::clone(self.service);
            tokio::spawn(async move { service.finish(entry.admitted, outcome).await });
        }
        Ok(())
    }
}

impl Entry {
    /// What the poller has to watch for.
    fn wanted(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        if self.interest.contains(Interest::READABLE) {
            flags |= EventFlags::IN;
        }
        if self.interest.contains(Interest::WRITABLE) || self.admitted.connection.has_unsent() {
            flags |= EventFlags::OUT;
        }
        flags
    }

    /// What of the poller's flags the guest is to hear about.
    ///
    /// The host's own unsent output goes first: until it is gone the guest
    /// could not write anyway.
    fn readiness(&mut self, flags: EventFlags) -> Readiness {
        let mut readiness = Readiness::empty();
        if flags.contains(EventFlags::IN) && self.interest.contains(Interest::READABLE) {
            readiness |= Readiness::READABLE;
        }
        if flags.intersects(EventFlags::OUT | EventFlags::ERR | EventFlags::HUP) {
            let connection = &self.admitted.connection;
            let had_unsent = connection.has_unsent();
            let sent = !had_unsent || connection.flush_now();
            if sent && flags.contains(EventFlags::OUT) {
                if self.interest.contains(Interest::WRITABLE) {
                    readiness |= Readiness::WRITABLE;
                } else if had_unsent {
                    // The room was for us and is no longer needed.
                    connection.ask_for_attention();
                }
            }
        }
        if flags.contains(EventFlags::HUP) {
            readiness |= Readiness::HANG_UP;
        }
        if flags.contains(EventFlags::ERR) {
            readiness |= Readiness::ERROR;
        }
        readiness
    }
}
