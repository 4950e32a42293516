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

/// The state of an instance, as the host gets it.
#[doc(hidden)]
pub fn save<T: crate::InstanceState>(instance: &T) -> Option<State> {
    crate::saved::save_instance(instance).map(State::from)
}

/// Begins with a state, as the host gives it.
#[doc(hidden)]
pub fn restore<T: crate::InstanceState>(instance: &mut T, state: State) -> Result<(), String> {
    crate::saved::restore_instance(instance, &state.into())
}

/// Exports the state that a thread-local cell holds.
#[doc(hidden)]
#[macro_export]
macro_rules! instance_state {
    ($component:ident, $instance:path) => {
        impl $crate::instance_state::InstanceState for $component {
            fn save() -> ::core::option::Option<$crate::instance_state::State> {
                $instance.with_borrow(|instance| $crate::instance_state::save(instance))
            }
            fn restore(
                state: $crate::instance_state::State,
            ) -> ::core::result::Result<(), ::std::string::String> {
                $instance.with_borrow_mut(|instance| $crate::instance_state::restore(instance, state))
            }
        }
        $crate::instance_state::export!($component with_types_in $crate::instance_state);
    };
}
