//! The key-value store under the contract `concurrent`: one asynchronous call per
//! connection, any number of calls in one instance.

use kv_protocol::Store;
use shell::HasProtocol;
use shell::instance_state::{self, InstanceState};
use shell_p3::{Handler, serve};
use wasip3::sockets::types::TcpSocket;

struct Component;

shell_p3::export!(Component);
shell::hand_over::export!(Component);
shell::instance_state::export!(Component);

thread_local! {
    static STORE: Store = Store::default();
}

impl HasProtocol for Component {
    type Protocol = Store;

    fn protocol() -> Result<Store, String> {
        Ok(STORE.with(Store::clone))
    }
}

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        serve(&Self::protocol()?, &socket).await
    }
}

impl InstanceState for Component {
    fn save() -> Option<instance_state::State> {
        STORE.with(Store::save).map(instance_state::State::from)
    }

    fn restore(state: instance_state::State) -> Result<(), String> {
        STORE.with(|store| store.restore(&state.into()))
    }
}
