//! Which of the connections that are ready have their turn, so that none of them starves.

use super::Server;
use crate::connection::Connection;
use crate::exports::sockserve::runner::server::Readiness;
use crate::wasi::clocks0_2_12::monotonic_clock::{Instant, subscribe_duration, subscribe_instant};
use crate::wasi::io::poll::{Pollable, poll};
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::ops::Bound::{Excluded, Unbounded};

/// The most connections that are ready at once, for the handler.
///
/// Up to 48, wasmtime's sockets spend a budget of Tokio's: 128 operations, until the
/// task has waited for something (wasmtime #14174). Each ready pollable of a `poll` is an
/// operation. After a `poll` with 128 of them each read finds nothing, however often it
/// is tried. So few are taken at once that what follows fits into the budget.
const AT_ONCE: usize = 32;

/// If so many are ready, there may be others of which the budget lets nobody know. Then
/// connections are asked in turn, [`AT_ONCE`] at a time.
const MANY: usize = 64;

/// So many waits for [`AT_ONCE`] connections that are ready spend the budget.
const SPENDING: u32 = 5;

/// So many times a connection comes first that finds nothing.
const PATIENCE: u32 = 8;

/// Why a pollable is in the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Listener(usize),
    Readable(u64),
    Writable(u64),
    /// By its place in the list of those that end.
    Closing(usize),
    Time,
}

impl Wait {
    /// The connection that is ready for the handler.
    fn connection(self) -> Option<u64> {
        match self {
            Self::Readable(id) | Self::Writable(id) => Some(id),
            Self::Listener(_) | Self::Closing(_) | Self::Time => None,
        }
    }
}

type Connections = BTreeMap<u64, Rc<Connection>>;

/// Whose turn it is.
pub(super) struct Turns {
    /// The last connection that has had its turn: those after it come first.
    served: u64,
    /// Those that were ready the last time, in their order.
    batch: Vec<u64>,
    /// How many times in a row the first of them has found nothing.
    waits: u32,
}

impl Turns {
    pub(super) const fn new() -> Self {
        Self {
            served: 0,
            batch: Vec::new(),
            waits: 0,
        }
    }

    /// Goes on after the connections that have found something. A connection that was
    /// ready and found nothing, because the budget was spent before its turn, comes first
    /// again; but not for ever, because it may be its handler's will.
    fn advance(&mut self, connections: &Connections) {
        let has_moved = |id: &&u64| connections.get(id).is_none_or(|it| it.has_moved.get());
        let last = self.batch.iter().take_while(has_moved).last().copied();
        if last.is_none() && !self.batch.is_empty() {
            self.waits += 1;
        }
        let skipped = (self.waits >= PATIENCE).then(|| self.batch.first().copied());
        if let Some(last) = last.or(skipped.flatten()) {
            self.served = last;
            self.waits = 0;
        }
    }

    /// Of the list, of which so many connections are ready, what has its turn.
    fn take(&mut self, list: &[(Wait, &Pollable)], ready: &[Wait], count: usize) -> Vec<Wait> {
        // What else may be ready is tried, because the budget may have hidden it.
        let others = list.iter().map(|(wait, _)| *wait);
        let others: Vec<Wait> = others.filter(|it| it.connection().is_none()).collect();
        let is_asked = |wait: &Wait| count >= MANY || ready.contains(wait);
        let in_turn = list.iter().copied();
        let in_turn = in_turn.filter(|(wait, _)| wait.connection().is_some() && is_asked(wait));
        let mut asked: Vec<(Wait, &Pollable)> = in_turn.take(AT_ONCE).collect();
        let last = asked
            .iter()
            .filter_map(|(wait, _)| wait.connection())
            .next_back();
        // It waits for a millisecond at most if none of these is ready.
        let soon = subscribe_duration(1);
        asked.push((Wait::Time, &soon));
        // Spends what is left of the budget. The wait after that gets a new one.
        let mut before = 0;
        for _ in 0..SPENDING {
            let found = wait_for(&asked).len();
            if found < before {
                break;
            }
            before = found;
        }
        let mut taken = wait_for(&asked);
        if !taken.iter().any(|wait| wait.connection().is_some()) {
            self.served = last.unwrap_or(self.served);
        }
        taken.extend(others);
        taken
    }
}

impl Server {
    /// Waits until something is ready, and returns what.
    pub(super) fn ready(&mut self) -> Vec<Wait> {
        let has_room = self.connections.len() + self.closing.len() < self.max_connections;
        self.turns.advance(&self.connections);
        let mut list: Vec<(Wait, &Pollable)> = Vec::new();
        if has_room && self.pause.is_none() {
            let listeners = self.listeners.iter().enumerate();
            list.extend(listeners.map(|(place, it)| (Wait::Listener(place), &it.acceptable)));
        }
        // Those that had no turn come first.
        let after = self
            .connections
            .range((Excluded(self.turns.served), Unbounded));
        let in_turn = after.chain(self.connections.range(..=self.turns.served));
        // The pollables are borrowed from their connections until after the wait.
        let borrowed: Vec<_> = in_turn
            .map(|(id, connection)| (*id, connection.interest.get(), connection.parts()))
            .filter(|(_, interest, _)| !interest.is_empty())
            .collect();
        for (id, interest, parts) in &borrowed {
            let Some(parts) = parts.as_ref() else {
                continue;
            };
            if interest.contains(Readiness::READABLE) {
                list.push((Wait::Readable(*id), &parts.readable));
            }
            if interest.contains(Readiness::WRITABLE) {
                list.push((Wait::Writable(*id), &parts.writable));
            }
        }
        for (place, closing) in self.closing.iter().enumerate() {
            if !closing.is_sent {
                list.push((Wait::Closing(place), &closing.parts.writable));
            }
            if !closing.is_read {
                list.push((Wait::Closing(place), &closing.parts.readable));
            }
        }
        let deadlines = self.closing.iter().map(|closing| closing.deadline);
        let next_time = deadlines.chain(self.tick).chain(self.pause).min();
        // With all places taken by connections at rest there is nothing else to wait for.
        let next_time = next_time.or_else(|| list.is_empty().then_some(Instant::MAX));
        let timer = next_time.map(subscribe_instant);
        list.extend(timer.iter().map(|timer| (Wait::Time, timer)));

        let mut ready = wait_for(&list);
        let connections = ready.iter().filter(|wait| wait.connection().is_some());
        let count = connections.count();
        if count > AT_ONCE {
            ready = self.turns.take(&list, &ready, count);
        }
        self.turns.batch = ready.iter().filter_map(|wait| wait.connection()).collect();
        for id in &self.turns.batch {
            if let Some(connection) = self.connections.get(id) {
                connection.has_moved.set(false);
            }
        }
        ready
    }
}

/// Waits until something of the list is ready, and returns what, in the list's order.
fn wait_for(list: &[(Wait, &Pollable)]) -> Vec<Wait> {
    let pollables: Vec<&Pollable> = list.iter().map(|(_, pollable)| *pollable).collect();
    let mut indexes = poll(&pollables);
    indexes.sort_unstable();
    let places = indexes
        .into_iter()
        .filter_map(|index| usize::try_from(index).ok());
    places
        .filter_map(|place| list.get(place).map(|(wait, _)| *wait))
        .collect()
}
