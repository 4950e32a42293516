//! How long the reads of one turn of `evented` may go on.
//!
//! A turn has the events of up to 1024 connections, and a session may take long for what it
//! reads: a line of the log for each line, for example. The host ends an instance whose turn
//! takes longer than the deadline, with all its connections. So a turn stops to read after a
//! while. The host tells of those connections again, and the next turn begins with them.

use super::evented::{ConnectionId, Event, Readiness, Ready};
use std::cell::Cell;
use wasi::clocks::monotonic_clock::{Instant, now};

/// How long a turn reads, in nanoseconds: much less than the host's default deadline of 1 s.
const LONG: Instant = 50_000_000;

/// The clock is looked at after so many bytes, because a session may take long for each line
/// of them.
const LOOK_BYTES: usize = 4096;

/// The clock is looked at after so many reads, because a session may take long for each.
const LOOK_READS: usize = 8;

thread_local! {
    /// `None` in a component whose turns do not call [`begin_turn`]. They have no limit.
    static TURN: Cell<Option<Turn>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct Turn {
    /// The bytes and the reads since the last look at the clock.
    bytes: usize,
    reads: usize,
    /// When the clock was first looked at. `None` before that.
    begun: Option<Instant>,
    is_over: bool,
    /// The first connection that was not read because of that.
    first_unread: Option<ConnectionId>,
}

impl Turn {
    fn begin() -> Self {
        Self {
            bytes: 0,
            // The second read looks at the clock for the first time: a turn with one short read
            // needs no clock.
            reads: LOOK_READS - 2,
            begun: None,
            is_over: false,
            first_unread: None,
        }
    }
}

/// Begins a turn. Returns its events in the order in which they are to be handled: what is
/// ready begins with the connection that was first not to be read in the turn before.
pub fn begin_turn(events: Vec<Event>) -> Vec<Event> {
    let before = TURN.replace(Some(Turn::begin()));
    let Some(unread) = before.and_then(|turn| turn.first_unread) else {
        return events;
    };
    let is_ready = |event: &Event| matches!(event, Event::Ready(_));
    let (mut ready, mut events): (Vec<_>, Vec<_>) = events.into_iter().partition(is_ready);
    let is_unread =
        |event: &Event| matches!(event, Event::Ready(ready) if ready.connection == unread);
    let first = ready.iter().position(is_unread).unwrap_or_default();
    ready.rotate_left(first);
    events.append(&mut ready);
    events
}

/// Whether this turn reads from a connection that is ready. If there is something to read and
/// this is false, the next turn reads it.
pub fn may_read(ready: &Ready) -> bool {
    if !ready.readiness.can_read() {
        return false;
    }
    let over = TURN.get().filter(|turn| turn.is_over);
    match over {
        // The host tells of an error once.
        Some(mut turn) if !ready.readiness.contains(Readiness::ERROR) => {
            turn.first_unread.get_or_insert(ready.connection);
            TURN.set(Some(turn));
            false
        }
        _ => true,
    }
}

/// Whether this turn reads no more.
pub fn is_over() -> bool {
    TURN.get().is_some_and(|turn| turn.is_over)
}

/// Notes a read of so many bytes, before the session has them.
pub fn note_read(bytes: usize) {
    let Some(mut turn) = TURN.get() else {
        return;
    };
    turn.bytes += bytes;
    turn.reads += 1;
    if turn.bytes >= LOOK_BYTES || turn.reads >= LOOK_READS {
        (turn.bytes, turn.reads) = (0, 0);
        let time = now();
        let begun = *turn.begun.get_or_insert(time);
        turn.is_over = time.saturating_sub(begun) >= LONG;
    }
    TURN.set(Some(turn));
}
