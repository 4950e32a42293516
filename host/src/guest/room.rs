//! Room for a state in the result of a call.

use crate::guest::State;
use wasmtime::AsContextMut;

/// As much room as the instance has memory, because an instance cannot give more than it
/// can hold. Without it, a state that is larger than any other result would end the
/// instance; with it, the host can refuse the state.
pub(super) struct Room {
    /// How much the result of any other call may have.
    before: usize,
}

impl Room {
    pub(super) fn make(mut store: impl AsContextMut<Data = State>) -> Self {
        let mut store = store.as_context_mut();
        let before = store.hostcall_fuel();
        let memory = usize::try_from(store.data().memory.limit()).unwrap_or(usize::MAX);
        store.set_hostcall_fuel(before.saturating_add(memory));
        Self { before }
    }

    pub(super) fn give_back(self, mut store: impl AsContextMut<Data = State>) {
        store.as_context_mut().set_hostcall_fuel(self.before);
    }
}
