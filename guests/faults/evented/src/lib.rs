//! Misbehaves under the contract `evented`, one way for each `MODE`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use faults_p2::{Job, options};
use faults_shared::{FAILURE, Fault, Mode, Request};
use shell_p2::evented::{
    Change, Connection, ConnectionId, Event, Handler, Interest, Opened, Readiness, Ready, Served,
    fail,
};

struct Component;

shell_p2::evented::export!(Component);

/// Between two ticks of `tick`, in nanoseconds.
const TICK: u64 = 50_000_000;

/// Between two looks at an outbound connection or a lookup, which a turn cannot
/// wait for.
const LOOK: u64 = 1_000_000;

thread_local! {
    static SERVER: RefCell<Server> = RefCell::new(Server::new());
}

struct Server {
    mode: Mode,
    peers: BTreeMap<ConnectionId, Peer>,
    /// Whether a tick is under way.
    timer: bool,
}

struct Peer {
    served: Served<Fault>,
    job: Option<Job>,
    failed: bool,
}

impl Handler for Component {
    fn turn(events: Vec<Event>) -> Vec<Change> {
        SERVER.with_borrow_mut(|server| {
            let mut changes = Vec::new();
            for event in events {
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

impl Server {
    fn new() -> Server {
        let mode: Mode = shell::option_or_trap("MODE");
        if mode == Mode::ShutdownSend {
            shell::trap(&mode.refusal());
        }
        Server {
            mode,
            peers: BTreeMap::new(),
            timer: false,
        }
    }

    fn open(&mut self, opened: Opened, changes: &mut Vec<Change>) {
        let id = opened.connection;
        let connection = Connection::from(opened);
        let options = (self.mode == Mode::Options).then(|| options(&connection.socket));
        let mut peer = Peer {
            served: Served::new(connection, Fault::new(self.mode)),
            job: None,
            failed: false,
        };
        if let Some(text) = options {
            peer.served.say(text.as_bytes());
            peer.served.close();
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
            self.advance(id, ready.readiness.can_read(), changes);
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
                peer.served.say(b"tick\r\n");
            } else if let Some(answer) = peer.job.as_mut().and_then(Job::poll) {
                peer.job = None;
                peer.served.say(answer.as_bytes());
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

    /// Does what can be done now for a connection.
    fn advance(&mut self, id: ConnectionId, can_read: bool, changes: &mut Vec<Change>) {
        let Some(peer) = self.peers.get_mut(&id) else {
            return;
        };
        let next = match peer.served.advance(can_read) {
            Some(_) if self.mode == Mode::NeverRead => Some(Interest::empty()),
            Some(interest) => Some(interest),
            None => peer.obey(),
        };
        match next {
            Some(interest) => changes.extend(peer.served.connection.wait_for(id, interest)),
            None => {
                let failed = peer.failed;
                self.peers.remove(&id);
                if failed {
                    changes.push(fail(id, FAILURE));
                } else if self.mode != Mode::Leak {
                    changes.push(Change::Close(id));
                }
            }
        }
    }
}

impl Peer {
    /// Does what the session wants done before its connection is closed. What the
    /// connection waits for meanwhile, if that goes on.
    fn obey(&mut self) -> Option<Interest> {
        let job = match self.served.session.request.take()? {
            Request::Fail => {
                self.failed = true;
                return None;
            }
            Request::Leak => return None,
            Request::Block => {
                let _ = self.served.connection.input.blocking_read(1);
                return None;
            }
            Request::Connect(address) => Job::connect(&address),
            Request::Resolve(name) => Job::resolve(&name),
        };
        match job {
            Ok(job) => {
                self.job = Some(job);
                Some(Interest::empty())
            }
            Err(answer) => {
                self.served.say(answer.as_bytes());
                self.served.advance(false)
            }
        }
    }
}
