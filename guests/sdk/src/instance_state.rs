//! The interface `instance-state`, which is the same beside every contract.
#![allow(missing_docs, reason = "wit-bindgen writes some items without them")]

wit_bindgen::generate!({
    inline: "
        package sockserve:sdk;

        world instance-state {
            export sockserve:handler/instance-state@0.1.0;
        }
    ",
    path: "wit",
    pub_export_macro: true,
    default_bindings_module: "sockserve_handler::instance_state",
});

pub use exports::sockserve::handler::instance_state::{Guest as InstanceState, State};

impl From<State> for crate::session::State {
    fn from(State { tag, bytes }: State) -> Self {
        Self { tag, bytes }
    }
}

impl From<crate::session::State> for State {
    fn from(crate::session::State { tag, bytes }: crate::session::State) -> Self {
        Self { tag, bytes }
    }
}
