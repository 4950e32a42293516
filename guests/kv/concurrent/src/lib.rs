//! The key-value store under the contract `concurrent`: one asynchronous call per
//! connection, any number of calls in one instance.

use kv_protocol::Store;
use sockserve_handler::HasProtocol;
use sockserve_handler::instance_state::{self, InstanceState};
use sockserve_handler::p3::concurrent::{Handler, serve};
use wasip3::sockets::types::TcpSocket;

struct Component;

sockserve_handler::p3::concurrent::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::instance_state::export!(Component);

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
