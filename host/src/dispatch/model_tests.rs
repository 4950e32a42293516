//! Whatever versions do with the connections that they are offered, and in whatever
//! order: a connection is in one place at any time, and none is lost.
//!
//! The versions, intakes and offers are the real ones. Rules that decide at random
//! stand for the guests.

use crate::connection::peer::Peer;
use crate::connection::{Connection, ConnectionId};
use crate::dispatch::offer;
use crate::guest::failure::Failure;
use crate::guest::hand_over::{ConnectionState, MAX_STATE};
use crate::guest::memory::MemoryBook;
use crate::lifecycle::{Phase, VersionNumber};
use crate::limits::Limits;
use crate::version::access::AccessLog;
use crate::version::entrance::{Arrival, Intake};
use crate::version::offer::{Batch, GivenUp, Handed};
use crate::version::stay::Admitted;
use crate::version::stay::tests::HANDLER;
use crate::version::versions::{Promoted, Versions};
use crate::version::{Origin, Version};
use futures_util::FutureExt as _;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

/// Gates need a clock.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

const MAX_CONNECTIONS: usize = 64;

#[derive(Clone, Debug)]
enum Act {
    /// A peer connects.
    Open,
    /// A version receives what has come. Its guest refuses every `refuse`th offer, and
    /// dies at every `die`th.
    TakeIn {
        version: usize,
        refuse: usize,
        die: usize,
    },
    /// A new version becomes current. With `gate`, its accepted connections wait for
    /// the version before.
    Swap { gate: bool },
    /// A retired version gives up its connections, except for every `keep`th. With
    /// `large`, their states are too large.
    GiveUp {
        version: usize,
        keep: usize,
        large: bool,
    },
    /// A version closes one of its connections.
    Close { version: usize },
    /// A new version gets a share of the new connections.
    Canary { percent: u8 },
    /// The canary becomes current.
    Promote,
    /// The canary is taken back.
    TakeBack,
}

fn act() -> impl Strategy<Value = Act> {
    let version = 0..6_usize;
    prop_oneof![
        4 => Just(Act::Open),
        6 => (version.clone(), 1..6_usize, 1..12_usize)
            .prop_map(|(version, refuse, die)| Act::TakeIn { version, refuse, die }),
        2 => any::<bool>().prop_map(|gate| Act::Swap { gate }),
        4 => (version.clone(), 2..6_usize, prop::bool::weighted(0.1))
            .prop_map(|(version, keep, large)| Act::GiveUp { version, keep, large }),
        1 => version.prop_map(|version| Act::Close { version }),
        1 => (1..=100_u8).prop_map(|percent| Act::Canary { percent }),
        1 => Just(Act::Promote),
        1 => Just(Act::TakeBack),
    ]
}

/// Receives everything: no offer is refused, and no guest dies.
fn take_in_all(version: usize) -> Act {
    Act::TakeIn {
        version,
        refuse: usize::MAX,
        die: usize::MAX,
    }
}

/// Gives every connection up.
fn give_up_all(version: usize) -> Act {
    Act::GiveUp {
        version,
        keep: usize::MAX,
        large: false,
    }
}

/// A version and its driver.
struct Driver {
    version: Arc<Version>,
    intake: Intake,
    /// The connections of its instance.
    books: BTreeMap<ConnectionId, Admitted>,
    /// The version that its connections were last offered to.
    offered_to: Option<VersionNumber>,
}

struct Model {
    versions: Arc<Versions>,
    drivers: Vec<Driver>,
    permits: Arc<Semaphore>,
    /// How many peers have connected.
    opened: u64,
    /// How many connections have not ended.
    alive: usize,
}

impl Model {
    fn new() -> Self {
        let handler = Arc::clone(&HANDLER);
        let versions = Versions::new(
            "model",
            Limits::default(),
            AccessLog::Off,
            handler,
            MemoryBook::default(),
        );
        let version = versions.current();
        let intake = version.open_intakes(1).remove(0);
        version.open_gate();
        let mut model = Self {
            versions,
            drivers: Vec::new(),
            permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            opened: 0,
            alive: 0,
        };
        model.add(version, intake);
        model
    }

    fn add(&mut self, version: Arc<Version>, intake: Intake) {
        self.drivers.push(Driver {
            version,
            intake,
            books: BTreeMap::new(),
            offered_to: None,
        });
    }

    fn act(&mut self, act: &Act) {
        let drivers = self.drivers.len();
        match *act {
            Act::Open => self.open(),
            // While there is a canary there is no other swap.
            Act::Swap { .. } | Act::Canary { .. } if self.versions.canary().is_some() => {}
            Act::Swap { gate } => self.swap(gate),
            Act::Canary { percent } => self.begin_canary(percent),
            Act::Promote => self.promote(),
            Act::TakeBack => self.take_back(),
            Act::TakeIn {
                version,
                refuse,
                die,
            } => {
                if let Some(driver) = self.drivers.get_mut(version % drivers) {
                    self.alive -= driver.take_in(refuse, die);
                }
            }
            Act::GiveUp {
                version,
                keep,
                large,
            } => {
                if let Some(driver) = self.drivers.get_mut(version % drivers) {
                    driver.give_up(&self.versions, keep, large);
                }
            }
            Act::Close { version } => {
                if let Some(driver) = self.drivers.get_mut(version % drivers)
                    && let Some((_, mut admitted)) = driver.books.pop_first()
                {
                    admitted.stay.end(&Ok(()));
                    self.alive -= 1;
                }
            }
        }
    }

    fn open(&mut self) {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return;
        };
        let (socket, _) = UnixStream::pair().unwrap();
        let peer = Peer::Ip(([127, 0, 0, 1], 1).into());
        let socket = OwnedFd::from(socket);
        let connection = Connection::new(
            &"model".into(),
            socket,
            peer,
            permit.into(),
            &self.versions.roll,
        );
        self.opened += 1;
        self.alive += 1;
        let canary = self.versions.canary_for_next();
        let version = canary.unwrap_or_else(|| self.versions.current());
        assert!(version.queue(connection).is_ok());
    }

    /// Does the steps of a swap.
    fn swap(&mut self, gate: bool) {
        let version = self.versions.next(Arc::clone(&HANDLER), Origin::Swap);
        let intake = version.open_intakes(1).remove(0);
        if gate {
            self.versions.current().hold_gate_of(&version);
        }
        version.open_gate();
        let mut history = self.versions.history();
        self.versions.replace(&mut history, &version, None);
        drop(history);
        for driver in &self.drivers {
            driver.version.ask(version.number);
        }
        self.add(version, intake);
    }

    /// Does the steps of a swap with a canary, and of its two ends.
    fn begin_canary(&mut self, percent: u8) {
        let version = self.versions.next(Arc::clone(&HANDLER), Origin::Swap);
        let intake = version.open_intakes(1).remove(0);
        version.open_gate();
        let mut history = self.versions.history();
        self.versions.begin_canary(&mut history, &version, percent);
        drop(history);
        self.add(version, intake);
    }

    fn promote(&mut self) {
        let promoted = self.versions.promote(&mut self.versions.history());
        let Some(Promoted { version, .. }) = promoted else {
            return;
        };
        assert!(self.versions.is_current(&version));
        for driver in &self.drivers {
            if !self.versions.is_current(&driver.version) {
                driver.version.ask(version.number);
            }
        }
    }

    fn take_back(&mut self) {
        let reason = Some("it is a test");
        let canary = self
            .versions
            .end_canary(&mut self.versions.history(), reason);
        if let Some(canary) = canary {
            canary.ask(self.versions.current().number);
        }
    }

    /// Checks that every connection has its permit, and is counted by the version that
    /// has it on its list or in its intake. A connection that has ended must be
    /// counted once as handled or failed.
    fn check(&self) {
        let mut handled_and_failed = 0;
        for driver in &self.drivers {
            let version = &driver.version;
            handled_and_failed += version.handled() + version.failures().total();
        }
        assert_eq!(handled_and_failed + self.alive as u64, self.opened);
        assert_eq!(
            self.permits.available_permits(),
            MAX_CONNECTIONS - self.alive
        );
        let open: u64 = self.drivers.iter().map(|it| it.version.open()).sum();
        assert_eq!(open, self.alive as u64);
        for driver in &self.drivers {
            assert!(driver.version.open() >= driver.books.len() as u64);
            for admitted in driver.books.values() {
                assert_eq!(Arc::strong_count(&admitted.connection), 1);
            }
        }
    }

    /// Lets every version receive and give up everything, until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..self.drivers.len() + 1 {
            for driver in &mut self.drivers {
                self.alive -= driver.take_in(usize::MAX, usize::MAX);
                driver.give_up(&self.versions, usize::MAX, false);
            }
            // A connection may have come home in between.
            for driver in &mut self.drivers {
                self.alive -= driver.take_in(usize::MAX, usize::MAX);
            }
        }
    }
}

impl Driver {
    /// Receives what has come. Returns how many connections died with an instance.
    fn take_in(&mut self, refuse: usize, die: usize) -> usize {
        let (mut seen, mut dead) = (0, 0);
        while let Some(Some(arrival)) = self.intake.next().now_or_never() {
            match arrival {
                Arrival::Settled => {}
                Arrival::Accepted(admitted) | Arrival::Returned(Handed { admitted, .. }) => {
                    self.books.insert(admitted.connection.id(), admitted);
                }
                Arrival::Offers(offers) => {
                    let mut batch = Batch::new(offers);
                    let mut died = false;
                    while batch.next().is_some() {
                        seen += 1;
                        let decision = if seen % die == 0 {
                            died = true;
                            Err(Failure::Trap("of old age".to_owned()))
                        } else if seen % refuse == 0 {
                            Ok(Err("not today".to_owned()))
                        } else {
                            Ok(Ok(()))
                        };
                        if batch.decide(decision).is_err() {
                            break;
                        }
                    }
                    let accepted: Vec<_> = batch.accept().collect();
                    assert!(!died || accepted.is_empty());
                    for admitted in accepted {
                        self.books.insert(admitted.connection.id(), admitted);
                    }
                    if died {
                        // The instance's own connections die with it, half of them by a
                        // panic, which counts nothing by itself.
                        dead += self.books.len();
                        for (id, mut admitted) in std::mem::take(&mut self.books) {
                            if id % 2 == 0 {
                                admitted.stay.end(&Err(Failure::Aborted));
                            }
                        }
                    }
                }
            }
        }
        dead
    }

    fn give_up(&mut self, versions: &Arc<Versions>, keep: usize, large: bool) {
        let to = self.version.asks_for();
        if !self.intake.is_finished() || to <= self.offered_to {
            return;
        }
        self.offered_to = to;
        let Some(to) = to else {
            return;
        };
        let ids: Vec<_> = self.books.keys().copied().collect();
        let mut handed = Vec::new();
        for (number, id) in ids.into_iter().enumerate() {
            let Some(mut admitted) = self.books.remove(&id) else {
                continue;
            };
            let connection = &mut admitted.connection;
            if !connection.may_go_to(Some(to)) || (number + 1) % keep == 0 {
                connection.mark_refused(to);
                self.books.insert(id, admitted);
                continue;
            }
            assert!(connection.renew());
            let size = if large { MAX_STATE + 1 } else { number };
            handed.push(Handed {
                admitted,
                state: ConnectionState {
                    tag: String::new(),
                    bytes: vec![0; size],
                },
                turn: None,
                room: None,
            });
        }
        offer(versions, handed, &self.intake.home());
        self.version.release_next_gate();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_connection_is_lost_or_counted_twice(acts in prop::collection::vec(act(), 1..80)) {
        let _runtime = RUNTIME.enter();
        let mut model = Model::new();
        for act in &acts {
            model.act(act);
            model.check();
        }
        model.act(&Act::TakeBack);
        // With one more version, which accepts everything, all connections reach it.
        model.act(&Act::Swap { gate: true });
        model.settle();
        model.check();
        let current = model.versions.current();
        prop_assert_eq!(current.open(), model.alive as u64);
        for driver in &model.drivers {
            let is_current = Arc::ptr_eq(&driver.version, &current);
            prop_assert!(is_current || driver.version.has_ended());
        }
    }
}

#[test]
fn a_connection_is_not_asked_again_by_who_refused_it() {
    let _runtime = RUNTIME.enter();
    let mut model = Model::new();
    model.act(&Act::Open);
    let everybody = |model: &mut Model, refuse| {
        for version in 0..model.drivers.len() {
            model.act(&Act::TakeIn {
                version,
                refuse,
                die: usize::MAX,
            });
            model.act(&give_up_all(version));
        }
    };
    everybody(&mut model, usize::MAX);
    model.act(&Act::Swap { gate: true });
    // The connection is given up, refused, and home again. More rounds change nothing.
    for _ in 0..4 {
        everybody(&mut model, 1);
    }
    let first = &model.drivers[0];
    assert_eq!((first.version.open(), first.books.len()), (1, 1));
    assert_eq!(model.drivers[1].version.hand_overs().refused, 1);
    // A later version may ask again.
    model.act(&Act::Swap { gate: true });
    for _ in 0..4 {
        everybody(&mut model, usize::MAX);
    }
    assert!(model.drivers[0].version.has_ended());
    assert_eq!(model.drivers[2].version.open(), 1);
    model.check();
}

#[test]
fn a_connection_without_a_home_is_closed_and_counted() {
    RUNTIME.block_on(async {
        let mut model = Model::new();
        model.versions.run_on(tokio::runtime::Handle::current());
        model.act(&Act::Open);
        model.act(&take_in_all(0));
        model.act(&Act::Swap { gate: false });
        model.act(&take_in_all(0));
        model.act(&give_up_all(0));
        // The connection's version is gone when the other one refuses it.
        let old = model.drivers.remove(0);
        let version = Arc::clone(&old.version);
        drop(old);
        model.act(&Act::TakeIn {
            version: 0,
            refuse: 1,
            die: usize::MAX,
        });
        version.emptied().await;
        assert_eq!(version.failures().host, 1);
        assert_eq!(model.permits.available_permits(), MAX_CONNECTIONS);
    });
}

#[test]
fn the_gate_is_shut_until_the_version_before_has_offered() {
    let _runtime = RUNTIME.enter();
    let mut model = Model::new();
    model.act(&Act::Open);
    model.act(&take_in_all(0));
    model.act(&Act::Swap { gate: true });
    model.act(&Act::Open);
    model.act(&take_in_all(1));
    assert!(model.drivers[1].books.is_empty(), "it waits at the gate");
    model.act(&take_in_all(0));
    model.act(&give_up_all(0));
    let first = model.drivers[1].intake.next().now_or_never().flatten();
    let Some(Arrival::Offers(offers)) = first else {
        panic!("what is offered comes before what was accepted");
    };
    assert_eq!(offers.len(), 1);
    drop(offers);
    model.act(&take_in_all(1));
    assert_eq!(model.drivers[1].books.len(), 1);
    assert_eq!(model.versions.phase(), Phase::Serving);
}

#[test]
fn what_a_shared_instance_gives_up_fits_into_its_memory() {
    let _runtime = RUNTIME.enter();
    let mut model = Model::new();
    for _ in 0..3 {
        model.act(&Act::Open);
    }
    model.act(&take_in_all(0));
    let mut given_up = GivenUp::default();
    let mut add = |size: usize| {
        let (_, admitted) = model.drivers[0].books.pop_first().unwrap();
        let state = ConnectionState {
            tag: "x".to_owned(),
            bytes: vec![0; size - 1],
        };
        let handed = Handed {
            admitted,
            state,
            turn: None,
            room: None,
        };
        let refused = given_up.add(handed, 100);
        refused.map(|(_, reason)| reason)
    };
    assert_eq!(add(60), None);
    let reason = "the states of its instance have more than 100 bytes";
    assert_eq!(add(41).as_deref(), Some(reason));
    assert_eq!(add(40), None);
    assert_eq!(given_up.take().len(), 2);
    assert!(given_up.take().is_empty());
}
