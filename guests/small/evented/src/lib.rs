//! inetd's small servers under the contract `evented`: one instance, and one call per
//! batch of events, which never waits.

use shell::hand_over::{HandOver, WitState};
use shell_p2::evented::{Change, ConnectionId, Event, Handler, Server};
use small_protocol::SmallProtocol;
use std::cell::RefCell;

struct Component;

shell_p2::evented::export!(Component);
shell::hand_over::export!(Component);

thread_local! {
    static SERVER: RefCell<Server<SmallProtocol>> = RefCell::new(Server::new(SmallProtocol::new(
        shell::option_or_trap("SERVICE"),
        shell::option_or_trap("QUOTE"),
        shell::unix_time,
    )));
}

impl Handler for Component {
    fn turn(events: Vec<Event>) -> Vec<Change> {
        SERVER.with_borrow_mut(|server| server.turn(events))
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
