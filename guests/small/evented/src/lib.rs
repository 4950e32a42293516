//! The small servers under the contract `evented`: one instance, and one call per batch
//! of events, which never waits.

use small_protocol::{Service, Small, SmallProtocol};
use sockserve_handler::hand_over::{HandOver, WitState};
use sockserve_handler::p2::CHUNK;
use sockserve_handler::p2::evented::{
    Change, ConnectionId, Event, Handler, Interest, Served, Server,
};
use std::cell::RefCell;

struct Component;

sockserve_handler::p2::evented::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::rolling_hand_over!();
sockserve_handler::check_at_start!(protocol);

/// How many pieces of the pattern one turn writes to a connection at most, so that the
/// others have their turn too.
const PIECES_PER_TURN: usize = 16;

thread_local! {
    static SERVER: RefCell<Server<SmallProtocol>> = RefCell::new(Server::new(
        protocol().unwrap_or_else(|error| sockserve_handler::trap(&error)),
    ));
}

/// The protocol with its options set.
fn protocol() -> Result<SmallProtocol, String> {
    Ok(SmallProtocol {
        service: sockserve_handler::option("SERVICE")?,
        quote: sockserve_handler::option("QUOTE")?,
        clock: sockserve_handler::unix_time,
    })
}

impl Handler for Component {
    fn turn(events: Vec<Event>) -> Vec<Change> {
        SERVER.with_borrow_mut(|server| match server.protocol().service {
            Service::Chargen => server.turn_by(events, chargen),
            _ => server.turn(events),
        })
    }
}

impl HandOver for Component {
    fn hand_over(connection: ConnectionId) -> Option<WitState> {
        let state = SERVER.with_borrow_mut(|server| server.hand_over(connection));
        state.map(WitState::from)
    }

    fn accept(connection: ConnectionId, state: WitState) -> Result<(), String> {
        SERVER.with_borrow(|server| server.accept(connection, state.into()))
    }
}

/// Writes as much of the pattern as can be written now, and drops what has come. Returns
/// the new interest, or `None` when a write fails, which is the end of every connection
/// to chargen.
///
/// It is interested in both directions. So a peer that sends and does not read is never
/// held back.
fn chargen(served: &mut Served<Small>, can_read: bool) -> Option<Interest> {
    let Served { connection, talk } = served;
    if can_read && !talk.is_finished() && connection.input.skip(CHUNK as u64).is_err() {
        talk.end();
    }
    for _ in 0..PIECES_PER_TURN {
        let room = connection.permit().ok()?;
        if room == 0 {
            break;
        }
        if talk.output.bytes.is_empty() {
            talk.add_more();
        }
        let piece = talk.output.bytes.front(room);
        connection.output.write(piece).ok()?;
        let written = piece.len();
        talk.output.bytes.consume(written);
    }
    if talk.is_finished() {
        Some(Interest::WRITABLE)
    } else {
        Some(Interest::WRITABLE | Interest::READABLE)
    }
}
