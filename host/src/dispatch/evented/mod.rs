//! One instance for all connections, called for each batch of readiness events:
//! `evented` handlers under `poll`.
//!
//! The cost of a turn depends on the number of connections in it, and not on the number
//! of open ones. An instance ends when a turn traps, or takes longer than the deadline,
//! computing or waiting. Then its connections are closed, and the next connection gets
//! a new instance. Between two turns connections can be handed over: all, or a group of them if
//! they are independent of each other.

mod entry;
pub(super) mod epoll;
mod moving;
mod watching;

use crate::connection::ConnectionId;
use crate::connection::attention::Attention;
use crate::dispatch::errands;
use crate::dispatch::evented::epoll::Poller;
use crate::dispatch::fault;
use crate::dispatch::succession::Begin;
use crate::guest::State;
use crate::guest::exports::Evented;
use crate::guest::exports::evented::{Change, Event, Interest, Readiness, Ready, opened};
use crate::guest::failure::Failure;
use crate::guest::instance::{Instance, Links};
use crate::guest::stdio::Known;
use crate::lifecycle::{Phase, VersionNumber};
use crate::version::Version;
use crate::version::asking::Rolling;
use crate::version::entrance::{Arrival, Intake, Registered};
use crate::version::errands::Errand;
use crate::version::offer::GivenUp;
use crate::version::succession::Departure;
use crate::version::versions::Versions;
use entry::Entry;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use wasmtime::Store;

/// The most events of one turn. The contract says so.
const MAX_EVENTS: usize = 1024;

/// The most connections that one turn opens. A handler can put off a read to the next turn, but
/// not what it does when a peer comes, and the deadline is for all of that.
const MAX_OPENED: usize = 64;

/// Runs one instance after another until no more connections can come.
pub(super) async fn run(
    versions: &Arc<Versions>,
    version: &Arc<Version>,
    intake: &mut Intake,
    poller: &mut Poller,
) {
    // An instance is made when there is a connection to serve.
    while let Some(begin) = Begin::next(versions, version, intake).await {
        let mut turns = Turns::new(versions, version, poller);
        match turns.run(begin, intake).await {
            Ok(()) => break,
            Err(failure) => turns.fail_all(failure, intake),
        }
    }
}

/// One instance and its connections.
struct Turns<'a> {
    versions: &'a Arc<Versions>,
    version: &'a Arc<Version>,
    poller: &'a mut Poller,
    open: HashMap<ConnectionId, Entry>,
    /// Registered connections that the guest has not been told of.
    coming: VecDeque<ConnectionId>,
    /// Connections that the host has ended and that the guest has not been told of.
    cut: VecDeque<ConnectionId>,
    /// Connections that may have something to tell the guest.
    ready: VecDeque<ConnectionId>,
    /// Whether as many connections have come as one turn opens: then what is ready has its turn
    /// before more of them are taken.
    is_crowded: bool,
    /// The events of the next turn.
    events: Vec<Event>,
    /// The connections of the last turn's events, kept for its memory.
    told: Vec<ConnectionId>,
    /// Where connections ask for attention.
    attention: Arc<Attention>,
    /// The list of the connections that asked, kept for its memory.
    asked: Vec<ConnectionId>,
    /// When the guest wants its next `tick`. `None` if it does not.
    tick_at: Option<Instant>,
    /// The version that the connections were last offered to. `None` before that.
    offered_to: Option<VersionNumber>,
    /// Connections that are given up and not offered yet.
    given_up: GivenUp,
    /// Whether the guest has said that its connections are independent of each other. `None`
    /// until it is asked.
    is_independent: Option<bool>,
    /// Connections that are to leave in groups and whose turn has not come. `None` if no such
    /// move is under way.
    rolling: Option<Rolling<'a>>,
    /// Whether the next group is to leave, or else what is ready has its turn first.
    rolls_next: bool,
    /// Whether what the instance knows can pass to another.
    keeps_state: bool,
    /// Whether the guest has something to do beside its connections.
    has_errands: bool,
}

/// The instance.
type Guest = Instance<Evented>;

/// What ends a wait between two turns.
enum Wake {
    /// Connections are ready, and their events are listed. From here to a turn, or to
    /// another wait if the guest is not to be told of any.
    Ready,
    /// Something has come. From here to `register` and then `admit`. `None` if no more
    /// can come.
    Arrival(Option<Arrival>),
    /// The connections are asked to go to the version with this number. From here to
    /// `leave`.
    Leave(VersionNumber),
    /// The next group is to leave. From here to `leave_next`.
    Roll,
    /// The time that the guest asked for has come. From here to a turn with a `tick`.
    Tick,
    /// Somebody wants a connection to be looked at. From here to `settle_asked`.
    Attention,
    /// Somebody asks for what the instance knows. From here to `depart`.
    Departure(Departure),
    /// The guest has something to do beside its connections. From here to `errands::run`.
    Errand(Errand),
}

impl<'a> Turns<'a> {
    fn new(versions: &'a Arc<Versions>, version: &'a Arc<Version>, poller: &'a mut Poller) -> Self {
        Self {
            versions,
            version,
            poller,
            open: HashMap::new(),
            coming: VecDeque::new(),
            cut: VecDeque::new(),
            ready: VecDeque::new(),
            is_crowded: false,
            events: Vec::new(),
            told: Vec::new(),
            attention: Arc::default(),
            asked: Vec::new(),
            tick_at: None,
            offered_to: None,
            given_up: GivenUp::default(),
            is_independent: None,
            rolling: None,
            rolls_next: false,
            keeps_state: version.handler.keeps_state(),
            has_errands: version.has_errands(),
        }
    }

    /// Serves until no more connections can come, the version aborts, or the instance
    /// dies.
    async fn run(&mut self, begin: Begin<Evented>, intake: &mut Intake) -> Result<(), Failure> {
        // Registered before the instance is made: if that fails, this connection fails
        // with it.
        let (prepared, first, errand) = match begin {
            Begin::Prepared(instance) => (Some(instance), Registered::Nothing, None),
            Begin::Arrival(first) => (None, self.register(first), None),
            Begin::Errand(errand) => (None, Registered::Nothing, Some(errand)),
        };
        let version = self.version;
        tokio::select! {
            biased;
            () = version.reached(Phase::Aborting) => Err(Failure::Aborted),
            result = self.serve(prepared, first, errand, intake) => result,
        }
    }

    /// Makes the instance, and lets turns and hand-overs alternate. Arguments and
    /// result as for [`run`](Self::run).
    async fn serve(
        &mut self,
        prepared: Option<Box<Guest>>,
        first: Registered,
        errand: Option<Errand>,
        intake: &mut Intake,
    ) -> Result<(), Failure> {
        let mut guest = match prepared {
            Some(instance) => instance,
            None => {
                let scope = self.versions.scope(None);
                let handler = &self.version.handler;
                Box::new(Guest::new(handler, scope, Links::default()).await?)
            }
        };
        self.welcome(&mut guest, first).await?;
        if let Some(errand) = errand {
            self.run_errand(&mut guest, errand).await?;
        }
        loop {
            fault::point(&self.versions.service);
            self.tell_of_coming(&mut guest.store)?;
            if !self.events.is_empty() {
                self.turn(&mut guest).await?;
                continue;
            }
            if intake.is_finished() && self.open.is_empty() {
                return Ok(());
            }
            match self.wait(intake).await? {
                Wake::Ready | Wake::Arrival(None) => {}
                Wake::Attention => self.settle_asked(),
                Wake::Tick => self.events.push(Event::Tick),
                Wake::Errand(errand) => self.run_errand(&mut guest, errand).await?,
                Wake::Leave(to) => self.leave(&mut guest, intake, to).await?,
                Wake::Roll => self.leave_next(&mut guest, intake).await?,
                Wake::Departure(departure) => self.depart(&mut guest, intake, departure).await?,
                Wake::Arrival(Some(arrival)) => {
                    let is_new = matches!(arrival, Arrival::Accepted(_));
                    let arrived = self.register(arrival);
                    self.welcome(&mut guest, arrived).await?;
                    while is_new
                        && self.coming.len() < MAX_OPENED
                        && let Some(next) = intake.try_accepted()
                    {
                        self.enter_new(&mut guest, next).await?;
                    }
                    self.is_crowded = self.coming.len() >= MAX_OPENED;
                }
            }
        }
    }

    /// Waits for what comes next. Adds the events of ready connections to the next
    /// turn.
    async fn wait(&mut self, intake: &mut Intake) -> io::Result<Wake> {
        let (tick_at, offered_to) = (self.tick_at, self.offered_to);
        let ticks = Arc::clone(&intake.ticks);
        // Arrivals, and offers that are not settled, come before leaving.
        let finished = intake.is_finished();
        let may_depart = self.keeps_state && !finished && intake.is_settled();
        let may_roll = finished && self.rolling.is_some();
        let rolls = may_roll && std::mem::take(&mut self.rolls_next);
        let is_crowded = std::mem::take(&mut self.is_crowded);
        let has_other_work = may_roll || is_crowded || !self.ready.is_empty();
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
            arrival = intake.next(), if !finished && !is_crowded => {
                return Ok(Wake::Arrival(arrival));
            }
            departure = self.version.departing(), if may_depart => {
                return Ok(Wake::Departure(departure));
            }
            to = self.version.asked_after(offered_to), if finished => return Ok(Wake::Leave(to)),
            () = std::future::ready(()), if rolls => return Ok(Wake::Roll),
            () = self.attention.woken() => return Ok(Wake::Attention),
            errand = self.version.next_errand(self.versions, &ticks), if self.has_errands => {
                return Ok(Wake::Errand(errand));
            }
            ready = self.poller.wait(has_other_work) => ready?,
        };
        // Turns and groups alternate.
        self.rolls_next = may_roll;
        for (id, flags) in ready {
            if let Some(entry) = self.open.get_mut(&id) {
                entry.note(flags);
                if !std::mem::replace(&mut entry.is_queued, true) {
                    self.ready.push_back(id);
                }
            }
        }
        self.tell_of_ready();
        self.settle_asked();
        Ok(Wake::Ready)
    }

    /// Adds the events of ready connections, for as many as a turn has room for.
    fn tell_of_ready(&mut self) {
        while self.events.len() < MAX_EVENTS
            && let Some(id) = self.ready.pop_front()
        {
            let Some(entry) = self.open.get_mut(&id) else {
                continue;
            };
            entry.is_queued = false;
            let readiness = entry.readiness();
            if readiness == Readiness::empty() {
                continue;
            }
            let is_at_rest = entry.interest == Interest::empty();
            self.events.push(Event::Ready(Ready {
                connection: id,
                readiness,
            }));
            if is_at_rest {
                // A connection without an interest is told once of hang-up or error.
                self.watch_nothing(id);
            }
        }
    }

    /// Looks at a connection again if there is still something to tell the guest: what it
    /// does not read or write is told again.
    fn look_again(&mut self, id: ConnectionId) {
        if let Some(entry) = self.open.get_mut(&id)
            && entry.watched.is_some()
            && !entry.is_queued
            && entry.is_ready()
        {
            entry.is_queued = true;
            self.ready.push_back(id);
        }
    }

    /// Calls what the guest does beside its connections.
    async fn run_errand(&mut self, guest: &mut Guest, errand: Errand) -> Result<(), Failure> {
        errands::run(self.versions, self.version, guest, errand).await?;
        // The call may have changed something about connections.
        self.settle_asked();
        Ok(())
    }

    /// Adds `opened` for registered connections, and hang-ups of those that the host has
    /// ended, for as many as the turn has room for.
    fn tell_of_coming(&mut self, store: &mut Store<State>) -> Result<(), Failure> {
        // The guest finds their resources dead, as after a reset.
        while self.events.len() < MAX_EVENTS
            && let Some(connection) = self.cut.pop_front()
        {
            let readiness = Readiness::HANG_UP | Readiness::ERROR;
            self.events.push(Event::Ready(Ready {
                connection,
                readiness,
            }));
        }
        let limit = MAX_EVENTS.min(self.events.len() + MAX_OPENED);
        while self.events.len() < limit
            && let Some(id) = self.coming.pop_front()
        {
            self.watch(id);
            let Some(entry) = self.open.get_mut(&id) else {
                continue;
            };
            entry.opened = true;
            let table = &mut store.data_mut().table;
            self.events.push(opened(table, id, &entry.connection)?);
        }
        Ok(())
    }

    /// Calls the guest with the events of this turn, and applies the changes that it
    /// returns.
    async fn turn(&mut self, guest: &mut Guest) -> Result<(), Failure> {
        let Guest {
            store,
            clock,
            exports,
            deadline,
            partner,
            ..
        } = guest;
        let changes = {
            let turn = pin!(exports.turn(store, clock, *deadline, &self.events));
            let turn = pin!(self.versions.calls.measure(turn));
            partner.during(self.partner(), turn).await?
        };
        let about = |event: Event| match event {
            Event::Opened(opened) => Some(opened.connection),
            Event::Ready(ready) => Some(ready.connection),
            Event::Tick => None,
        };
        self.told.extend(self.events.drain(..).filter_map(about));
        for change in changes {
            match change {
                Change::Interest(change) => {
                    if let Some(entry) = self.open.get_mut(&change.connection) {
                        entry.interest = change.interest;
                        self.watch(change.connection);
                    }
                }
                Change::Close(id) => self.close(id, Ok(())),
                Change::Fail(failed) => {
                    self.close(failed.connection, Err(Failure::Guest(failed.reason)));
                }
                Change::TickAfter(nanoseconds) => {
                    self.tick_at = Instant::now().checked_add(Duration::from_nanos(nanoseconds));
                }
            }
        }
        self.settle_asked();
        let mut told = std::mem::take(&mut self.told);
        told.drain(..).for_each(|id| self.look_again(id));
        self.told = told;
        Ok(())
    }

    /// The connection that all events of this turn are about. `None` if there are several.
    fn partner(&self) -> Option<Known> {
        let about = |event: &Event| match event {
            Event::Opened(opened) => Some(opened.connection),
            Event::Ready(ready) => Some(ready.connection),
            Event::Tick => None,
        };
        let (first, rest) = self.events.split_first()?;
        let only = about(first)?;
        if rest.iter().any(|event| about(event) != Some(only)) {
            return None;
        }
        let entry = self.open.get(&only)?;
        Some(Known::Connection(Arc::clone(entry.connection.record())))
    }
}
