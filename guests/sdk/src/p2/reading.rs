//! How long the reads of one turn of `evented` may go on.
//!
//! A turn has the events of up to 1024 connections, and a session may take long for what it
//! reads: a line of the log for each line, for example. The host ends an instance whose turn
//! takes longer than the deadline, with all its connections. So a turn stops to read after a
//! while. The host tells of those connections again, and they are the first to be read then.

use super::evented::{ConnectionId, Event, Readiness, Ready};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use wasi::clocks::monotonic_clock::{Instant, now};

/// How long a turn reads, in nanoseconds: much less than the host's default deadline of 1 s.
/// What a session does with its last read comes in addition.
const LONG: Instant = 50_000_000;

/// The clock is looked at after so many bytes or reads, whichever comes first; and after each
/// read if the time since the last look was as long as this, in nanoseconds.
const LOOK_BYTES: usize = 4096;
const LOOK_READS: usize = 8;
const SLOW: Instant = 1_000_000;

/// How many connections are remembered as put off. Some of them may have ended meanwhile, and
/// these are never forgotten one by one.
const MAX_PUT_OFF: usize = 1 << 16;

thread_local! {
    /// `None` in a component whose turns do not call [`begin_turn`]. They have no limit.
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
    /// Connections that were put off, in the order in which they are to be read.
    static PUT_OFF: RefCell<Vec<ConnectionId>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Copy)]
struct Turn {
    begun: Instant,
    /// When the clock was last looked at, and the bytes and reads since then.
    looked: Instant,
    bytes: usize,
    reads: usize,
    /// Whether the time before the last look was long.
    is_slow: bool,
    is_over: bool,
}

impl Turn {
    fn begin() -> Self {
        let begun = now();
        Self {
            begun,
            looked: begun,
            bytes: 0,
            // The clock is first looked at before the second read.
            reads: LOOK_READS - 1,
            is_slow: false,
            is_over: false,
        }
    }

    fn is_due(&self) -> bool {
        let limit = if self.is_slow { 1 } else { LOOK_READS };
        self.reads >= limit || self.bytes >= LOOK_BYTES
    }

    fn look(&mut self) {
        let time = now();
        self.is_slow = time.saturating_sub(self.looked) >= SLOW;
        self.is_over = time.saturating_sub(self.begun) >= LONG;
        self.looked = time;
        (self.bytes, self.reads) = (0, 0);
    }
}

/// Begins a turn. Returns its events in the order in which they are to be handled: those of
/// connections that turns before have put off come first of what is ready.
pub fn begin_turn(events: Vec<Event>) -> Vec<Event> {
    TURN.set(Some(Turn::begin()));
    PUT_OFF.with_borrow_mut(|put_off| match put_off.is_empty() {
        true => events,
        false => sort(events, put_off),
    })
}

/// Moves those that were put off to the front of what is ready, and forgets that they were.
fn sort(events: Vec<Event>, put_off: &mut Vec<ConnectionId>) -> Vec<Event> {
    let mut places: BTreeMap<_, _> = put_off.iter().copied().zip(0..).collect();
    let is_ready = |event: &Event| matches!(event, Event::Ready(_));
    let (mut ready, mut events): (Vec<_>, Vec<_>) = events.into_iter().partition(is_ready);
    ready.sort_by_cached_key(|event| match event {
        Event::Ready(ready) => places.remove(&ready.connection).unwrap_or(usize::MAX),
        _ => usize::MAX,
    });
    events.append(&mut ready);
    // Others have their turn later: the host tells of 1024 at once.
    put_off.retain(|id| places.contains_key(id));
    if put_off.len() > MAX_PUT_OFF {
        put_off.clear();
    }
    events
}

/// Whether this turn reads from a connection that is ready. If there is something to read and
/// this is false, a later turn reads it.
pub fn may_read(ready: &Ready) -> bool {
    // Of an error or a hang-up without input the host may tell only once.
    let is_told_again = ready.readiness.contains(Readiness::READABLE);
    ready.readiness.can_read() && !(is_told_again && put_off(ready.connection))
}

/// Whether this turn reads no more. Then the connection, which the host must tell of again, is
/// put off to a later one.
pub fn put_off(connection: ConnectionId) -> bool {
    let over = is_over();
    if over {
        PUT_OFF.with_borrow_mut(|put_off| put_off.push(connection));
    }
    over
}

/// Whether this turn reads no more. Called before a read.
pub fn is_over() -> bool {
    let Some(mut turn) = TURN.get() else {
        return false;
    };
    if !turn.is_over && turn.is_due() {
        turn.look();
        TURN.set(Some(turn));
    }
    turn.is_over
}

/// Notes a read of so many bytes.
pub fn note_read(bytes: usize) {
    if let Some(mut turn) = TURN.get() {
        turn.bytes += bytes;
        turn.reads += 1;
        TURN.set(Some(turn));
    }
}
