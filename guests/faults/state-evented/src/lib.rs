//! Echoes, and traps at `fault`. Misbehaves when it is to save what it knows, in one way per
//! `STATE`.

use faults_shared::{FaultProtocol, Keeping, Mode};
use sockserve_handler::hand_over::{HandOver, WitState};
use sockserve_handler::instance_state::{self, InstanceState};
use sockserve_handler::p2::evented::{Change, ConnectionId, Event, Handler, Server};
use std::cell::RefCell;

struct Component;

sockserve_handler::p2::evented::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::instance_state::export!(Component);

thread_local! {
    static SERVER: RefCell<Server<FaultProtocol>> =
        RefCell::new(Server::new(FaultProtocol { mode: Mode::Trap }));
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

/// It knows nothing, and says so as `STATE` tells it.
impl InstanceState for Component {
    fn save() -> Option<instance_state::State> {
        let keeping: Keeping = sockserve_handler::option_or_trap("STATE");
        keeping.save(&[]).map(instance_state::State::from)
    }

    fn restore(state: instance_state::State) -> Result<(), String> {
        let keeping: Keeping = sockserve_handler::option_or_trap("STATE");
        keeping.restore(state.into()).map(drop)
    }
}
