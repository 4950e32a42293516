//! The interface `instance-state`, which is the same beside every contract.

wit_bindgen::generate!({
    inline: "
        package sockserve:shell;

        world instance-state {
            export sockserve:handler/instance-state@0.1.0;
        }
    ",
    path: "../../../wit",
    pub_export_macro: true,
    default_bindings_module: "shell::instance_state",
});

pub use exports::sockserve::handler::instance_state::{Guest as InstanceState, State};

impl From<State> for protocol::State {
    fn from(State { tag, bytes }: State) -> Self {
        Self { tag, bytes }
    }
}

impl From<protocol::State> for State {
    fn from(protocol::State { tag, bytes }: protocol::State) -> Self {
        Self { tag, bytes }
    }
}
