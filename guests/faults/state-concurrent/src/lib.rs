//! Echoes, and traps at `fault`. Misbehaves when it is to save what it knows, in one way per
//! `STATE`.

use faults_shared::{FaultProtocol, Keeping, Mode};
use sockserve_handler::HasProtocol;
use sockserve_handler::instance_state::{self, InstanceState};
use sockserve_handler::p3::concurrent::{Handler, serve};
use wasip3::sockets::types::TcpSocket;

struct Component;

sockserve_handler::p3::concurrent::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::instance_state::export!(Component);

impl HasProtocol for Component {
    type Protocol = FaultProtocol;

    fn protocol() -> Result<FaultProtocol, String> {
        Ok(FaultProtocol { mode: Mode::Trap })
    }
}

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        serve(&Self::protocol()?, &socket).await
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
