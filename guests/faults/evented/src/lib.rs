//! Misbehaves under the contract `evented`, in one way per `MODE` and per `HAND_OVER`.

mod random;

use faults_p2::{Job, LONG, misuse, options};
use faults_shared::{FAILURE, Fault, FaultProtocol, Manner, Mode, Request, compute_for};
use random::Random;
use sockserve_handler::connection_info::lines;
use sockserve_handler::hand_over::{self, HandOver, WitState};
use sockserve_handler::p2::evented::{
    Change, Connection, ConnectionId, Event, Failure, Handler, Interest, Opened, Readiness, Ready,
    Served, fail_change,
};
use sockserve_handler::p2::{connection_info, peer, reading};
use sockserve_handler::session::State;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;
use wasi::clocks::monotonic_clock::subscribe_duration;

struct Component;

sockserve_handler::p2::evented::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::rolling_hand_over!(faults_shared::is_rolling);

/// The time between two ticks of `tick`, in nanoseconds.
const TICK: u64 = 50_000_000;

/// The time between two polls of an outbound connection or a lookup, in nanoseconds. A
/// turn must not wait for them.
const LOOK: u64 = 1_000_000;

/// For how long `crowd` computes.
const BUSY: Duration = Duration::from_millis(1);

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server::new());
}

struct Server {
    mode: Mode,
    manner: Manner,
    peers: BTreeMap<ConnectionId, Peer>,
    /// Whether the timer is set.
    timer: bool,
    /// How many connections this turn opens, and how many have been opened.
    opening: usize,
    opened: usize,
}

struct Peer {
    served: Served<Fault>,
    job: Option<Job>,
    failed: bool,
}

impl Handler for Component {
    fn turn(events: Vec<Event>) -> Vec<Change> {
        SERVER.with_borrow_mut(|server| {
            let is_opened = |event: &&Event| matches!(event, Event::Opened(_));
            server.opening = events.iter().filter(is_opened).count();
            let mut changes = Vec::new();
            for event in reading::begin_turn(events) {
                match event {
                    Event::Opened(opened) => server.open(opened, &mut changes),
                    Event::Ready(ready) => server.ready(ready, &mut changes),
                    Event::Tick => server.tick(&mut changes),
                }
            }
            server.start_timer(&mut changes);
            changes
        })
    }
}

impl HandOver for Component {
    fn hand_over(connection: ConnectionId) -> Option<WitState> {
        let state = SERVER.with_borrow_mut(|server| server.hand_over(connection));
        state.map(WitState::from)
    }

    fn accept(connection: ConnectionId, state: WitState) -> Result<(), String> {
        SERVER.with_borrow(|server| {
            if server.manner == Manner::WaitAccept {
                subscribe_duration(LONG).block();
            }
            let state = server.manner.accept(state.into())?;
            hand_over::accept(&server.protocol(), connection, state)
        })
    }
}

impl Server {
    fn new() -> Self {
        let mode: Mode = sockserve_handler::option_or_trap("MODE");
        if mode == Mode::ShutdownSend {
            sockserve_handler::trap(&mode.refusal());
        }
        let manner: Manner = sockserve_handler::option_or_trap("HAND_OVER");
        if manner == Manner::Ignore {
            sockserve_handler::trap(&manner.refusal());
        }
        Self {
            mode,
            manner,
            peers: BTreeMap::new(),
            timer: false,
            opening: 0,
            opened: 0,
        }
    }

    fn protocol(&self) -> FaultProtocol {
        FaultProtocol { mode: self.mode }
    }

    /// A connection with a job cannot be given up.
    fn hand_over(&mut self, id: ConnectionId) -> Option<State> {
        let peer = self.peers.get_mut(&id)?;
        if peer.job.is_some() || self.manner == Manner::None {
            return None;
        }
        let state = hand_over::save::<FaultProtocol>(&mut peer.served.talk)?;
        if self.manner != Manner::Hold {
            self.peers.remove(&id);
        }
        self.manner.give_up(state)
    }

    fn open(&mut self, opened: Opened, changes: &mut Vec<Change>) {
        let id = opened.connection;
        let connection = Connection::from(opened);
        let told = match self.mode {
            Mode::Options => Some(options(&connection.socket)),
            Mode::Describe => Some(lines(connection_info(&connection.socket))),
            _ => None,
        };
        let address = || peer(&connection.socket);
        let Ok(talk) = hand_over::open_conversation(&self.protocol(), id, address) else {
            return changes.push(Change::Close(id));
        };
        let mut peer = Peer {
            served: Served { connection, talk },
            job: None,
            failed: false,
        };
        if let Some(text) = told {
            peer.say(&text);
            peer.served.talk.close();
        }
        if self.mode == Mode::Crowd {
            compute_for(BUSY);
            self.opened += 1;
            peer.say(&format!("{}\r\n", self.opening));
        }
        self.peers.insert(id, peer);
        self.advance(id, false, changes);
    }

    fn ready(&mut self, ready: Ready, changes: &mut Vec<Change>) {
        let id = ready.connection;
        let gone = Readiness::HANG_UP | Readiness::ERROR;
        if self.mode == Mode::NeverRead && ready.readiness.intersects(gone) {
            self.peers.remove(&id);
            changes.push(Change::Close(id));
        } else {
            let can_read = reading::may_read(&ready);
            if self.mode == Mode::Crowd
                && can_read
                && let Some(peer) = self.peers.get_mut(&id)
            {
                peer.say(&format!("{}\r\n", self.opened));
            }
            self.advance(id, can_read, changes);
        }
    }

    fn tick(&mut self, changes: &mut Vec<Change>) {
        self.timer = false;
        let ids: Vec<ConnectionId> = self.peers.keys().copied().collect();
        for id in ids {
            let Some(peer) = self.peers.get_mut(&id) else {
                continue;
            };
            if self.mode == Mode::Tick {
                peer.say("tick\r\n");
            } else if let Some(answer) = peer.job.as_mut().and_then(Job::poll) {
                peer.job = None;
                peer.say(&answer);
            } else {
                continue;
            }
            self.advance(id, false, changes);
        }
    }

    fn start_timer(&mut self, changes: &mut Vec<Change>) {
        let working = self.peers.values().any(|peer| peer.job.is_some());
        if self.timer || !(working || (self.mode == Mode::Tick && !self.peers.is_empty())) {
            return;
        }
        self.timer = true;
        changes.push(Change::TickAfter(if working { LOOK } else { TICK }));
    }

    /// Makes changes that no handler would make, for open connections and for others.
    fn change_anything(&mut self, seed: u64, changes: &mut Vec<Change>) {
        let mut random = Random::new(seed);
        let mut ids: Vec<ConnectionId> = self.peers.keys().copied().collect();
        ids.extend([0, u64::MAX, random.next()]);
        for _ in 0..random.below(40) {
            let change = random.change(&ids);
            // It drops a connection that it closes, but not always.
            if let Change::Close(id) | Change::Fail(Failure { connection: id, .. }) = change
                && random.below(4) > 0
            {
                self.peers.remove(&id);
            }
            changes.push(change);
        }
    }

    /// Does what can be done now for a connection.
    fn advance(&mut self, id: ConnectionId, can_read: bool, changes: &mut Vec<Change>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let next = peer.served.advance(can_read);
        let seed = match peer.served.talk.session.request {
            Some(Request::Random(seed)) => Some(seed),
            _ => None,
        };
        let next = match next {
            Some(_) if self.mode == Mode::NeverRead => Some(Interest::empty()),
            Some(_) if self.mode == Mode::Eager => Some(Interest::all()),
            Some(interest) => Some(interest),
            None => peer.do_request(),
        };
        match next {
            Some(interest) => changes.extend(peer.served.connection.set_interest(id, interest)),
            None => {
                if let Some(seed) = seed {
                    self.change_anything(seed, changes);
                }
                // A random change may have removed it.
                let failed = self.peers.remove(&id).is_some_and(|peer| peer.failed);
                if failed {
                    changes.push(fail_change(id, FAILURE));
                } else if self.mode != Mode::Leak {
                    changes.push(Change::Close(id));
                }
            }
        }
    }
}

impl Peer {
    /// Adds output that does not come from the session.
    fn say(&mut self, text: &str) {
        self.served.talk.output.bytes.push(text.as_bytes());
    }

    /// Does what the session has requested before its connection is closed. Returns the
    /// interest of the connection while that is not finished, and `None` when it is.
    fn do_request(&mut self) -> Option<Interest> {
        let job = match self.served.talk.session.request.take()? {
            Request::Fail => {
                self.failed = true;
                return None;
            }
            Request::Leak => return None,
            Request::Block => {
                let _ = self.served.connection.input.blocking_read(1);
                return None;
            }
            Request::Misuse => {
                let connection = &self.served.connection;
                misuse(&connection.socket, &connection.input, &connection.output);
                return None;
            }
            Request::Random(_) => return None,
            Request::Connect(address) => Job::connect(&address),
            Request::Resolve(name) => Job::resolve(&name),
        };
        match job {
            Ok(job) => {
                self.job = Some(job);
                Some(Interest::empty())
            }
            Err(answer) => {
                self.say(&answer);
                self.served.advance(false)
            }
        }
    }
}
