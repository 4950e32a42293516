//! One instance for all connections, called for each batch of readiness events:
//! `evented` handlers under `poll`.
//!
//! A turn costs by the connections in it and not by those that are open. A turn
//! that waits or computes past the deadline, or traps, ends the instance; its
//! connections are closed, and the next connection gets a new one.

use crate::dispatch::poller::Poller;
use crate::guest::State;
use crate::guest::bindings::evented::EventedHandler;
use crate::guest::bindings::evented::exports::sockserve::handler::evented::{
    Change, Event, Interest, Opened, Readiness, Ready,
};
use crate::guest::clock::{DeadlineExceeded, GuestClock};
use crate::guest::failure::Failure;
use crate::service::version::Version;
use crate::service::{Phase, Shared};
use crate::sockets::attention::Attention;
use crate::sockets::connection::{Connection, ConnectionId};
use crate::sockets::p2;
use rustix::event::epoll::EventFlags;
use std::collections::HashMap;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wasmtime::Store;

/// The most events of one turn. The contract says so.
const MAX_EVENTS: usize = 1024;

/// Runs one instance after another until nothing more comes.
pub(super) async fn run(
    service: Arc<Shared>,
    version: Arc<Version>,
    mut intake: mpsc::UnboundedReceiver<Arc<Connection>>,
    mut poller: Poller,
) {
    // An instance is made when there is somebody to serve.
    while let Some(first) = intake.recv().await {
        let mut turns = Turns::new(&service, &version, &mut poller);
        match turns.run(first, &mut intake).await {
            Ok(()) => return,
            Err(failure) => turns.fail_all(failure),
        }
    }
}

/// One instance and its connections.
struct Turns<'a> {
    service: &'a Arc<Shared>,
    version: &'a Arc<Version>,
    poller: &'a mut Poller,
    open: HashMap<ConnectionId, Entry>,
    /// The next turn.
    events: Vec<Event>,
    attention: Arc<Attention>,
    /// Room for the list of those who asked for it.
    asked: Vec<ConnectionId>,
    tick_at: Option<Instant>,
}

struct Entry {
    connection: Arc<Connection>,
    /// What the guest wants to be woken for.
    interest: Interest,
    /// What the poller watches for: the interest, and room for what the kernel
    /// has not taken yet. Nothing if the connection is not in the poller.
    watched: Option<EventFlags>,
}

/// What goes on in a wait.
enum Wake {
    Ready,
    Incoming(Option<Arc<Connection>>),
    Tick,
}

impl<'a> Turns<'a> {
    fn new(service: &'a Arc<Shared>, version: &'a Arc<Version>, poller: &'a mut Poller) -> Self {
        Self {
            service,
            version,
            poller,
            open: HashMap::new(),
            events: Vec::new(),
            attention: Arc::default(),
            asked: Vec::new(),
            tick_at: None,
        }
    }

    /// Serves until nothing more comes, the service aborts, or the instance
    /// dies.
    async fn run(
        &mut self,
        first: Arc<Connection>,
        intake: &mut mpsc::UnboundedReceiver<Arc<Connection>>,
    ) -> Result<(), Failure> {
        // Before the instance is made, so that its failure is this peer's too.
        let first = self.admit(first)?;
        let version = self.version;
        tokio::select! {
            biased;
            () = version.reached(Phase::Aborting) => Err(Failure::Aborted),
            result = self.serve(first, intake) => result,
        }
    }

    async fn serve(
        &mut self,
        first: ConnectionId,
        intake: &mut mpsc::UnboundedReceiver<Arc<Connection>>,
    ) -> Result<(), Failure> {
        let handler = &self.version.handler;
        let (mut store, clock) = handler.store(self.service.scope(None), None)?;
        let instance = handler.evented(&mut store, &clock).await?;
        self.push_opened(&mut store, first)?;
        let mut more = true;
        loop {
            self.turn(&instance, &mut store, &clock).await?;
            while self.events.is_empty() {
                if !more && self.open.is_empty() {
                    return Ok(());
                }
                match self.wait(intake, more).await? {
                    Wake::Ready => {}
                    Wake::Tick => self.events.push(Event::Tick),
                    Wake::Incoming(None) => more = false,
                    Wake::Incoming(Some(next)) => {
                        let id = self.admit(next)?;
                        self.push_opened(&mut store, id)?;
                        while self.events.len() < MAX_EVENTS
                            && let Ok(next) = intake.try_recv()
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
        intake: &mut mpsc::UnboundedReceiver<Arc<Connection>>,
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
            next = intake.recv(), if more => return Ok(Wake::Incoming(next)),
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

    fn admit(&mut self, connection: Arc<Connection>) -> io::Result<ConnectionId> {
        connection.set_attention(Arc::clone(&self.attention));
        let id = connection.id();
        let interest = Interest::READABLE;
        let watched = Some(EventFlags::IN);
        let added = self.poller.add(&connection, EventFlags::IN);
        let entry = Entry {
            connection,
            interest,
            watched,
        };
        // In any case, so that it is closed in order.
        self.open.insert(id, entry);
        added.map(|()| id)
    }

    fn push_opened(&mut self, store: &mut Store<State>, id: ConnectionId) -> Result<(), Failure> {
        let Some(entry) = self.open.get(&id) else {
            return Ok(());
        };
        let table = &mut store.data_mut().table;
        let (socket, input, output) =
            p2::push(table, &entry.connection).map_err(|error| Failure::from_call(&error))?;
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
    ) -> Result<(), Failure> {
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
        let deadline = self.version.handler.limits().deadline;
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
                Some(entry) if entry.connection.is_released() => {
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
        let connection = &entry.connection;
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
            self.poller.remove(&entry.connection)?;
        }
        Ok(())
    }

    /// Lets a connection go, to be closed in order.
    fn close(&mut self, id: ConnectionId, outcome: Result<(), Failure>) -> io::Result<()> {
        self.watch_nothing(id)?;
        if let Some(entry) = self.open.remove(&id) {
            let (service, version) = (Arc::clone(self.service), Arc::clone(self.version));
            tokio::spawn(async move { service.finish(&version, entry.connection, outcome).await });
        }
        Ok(())
    }

    /// Ends every connection of an instance that is gone.
    fn fail_all(self, failure: Failure) {
        for entry in self.open.values().filter(|entry| entry.watched.is_some()) {
            // The poller outlives the instance, and closing takes a while. A
            // connection that cannot be removed is not in it.
            let _ = self.poller.remove(&entry.connection);
        }
        let connections = self.open.into_values().map(|entry| entry.connection);
        self.service
            .instance_died(self.version, connections, failure);
    }
}

impl Entry {
    /// What the poller has to watch for.
    fn wanted(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        if self.interest.contains(Interest::READABLE) {
            flags |= EventFlags::IN;
        }
        if self.interest.contains(Interest::WRITABLE) || self.connection.has_unsent() {
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
            let connection = &self.connection;
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
