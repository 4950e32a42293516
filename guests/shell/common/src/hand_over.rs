//! The interface `hand-over`, which is the same beside every contract, and what lies
//! ready between two calls of it: the states of connections that were given up, and
//! of those that were taken on and are not served yet.

use protocol::{Conversation, Protocol, State};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

wit_bindgen::generate!({
    inline: "
        package sockserve:shell;

        world hand-over {
            export sockserve:handler/hand-over@0.1.0;
        }
    ",
    path: "../../../wit",
    pub_export_macro: true,
    default_bindings_module: "shell::hand_over",
});

pub use exports::sockserve::handler::hand_over::{
    ConnectionId, Guest as HandOver, State as WitState,
};

impl From<WitState> for State {
    fn from(WitState { tag, bytes }: WitState) -> Self {
        Self { tag, bytes }
    }
}

impl From<State> for WitState {
    fn from(State { tag, bytes }: State) -> Self {
        Self { tag, bytes }
    }
}

type States = RefCell<BTreeMap<ConnectionId, State>>;

thread_local! {
    static GIVEN_UP: States = const { RefCell::new(BTreeMap::new()) };
    static TAKEN_ON: States = const { RefCell::new(BTreeMap::new()) };
}

/// A component whose connections all speak one protocol, and which hands them over
/// as that says.
pub trait Speaks {
    /// What they speak.
    type Protocol: Protocol;

    /// The protocol as the options set it. The error is one line that says what is
    /// wrong with them.
    fn protocol() -> Result<Self::Protocol, String>;
}

impl<T: Speaks> HandOver for T {
    fn hand_over(connection: ConnectionId) -> Option<WitState> {
        given_up(connection).map(WitState::from)
    }

    fn accept(connection: ConnectionId, state: WitState) -> Result<(), String> {
        accept(&T::protocol()?, connection, state.into())
    }
}

/// The conversation over a connection: the one that was handed over with it, or a
/// new one.
pub fn converse<P: Protocol>(
    protocol: &P,
    connection: ConnectionId,
    peer: impl FnOnce() -> Result<IpAddr, String>,
) -> Result<Conversation<P::Session>, String> {
    let session = protocol.session(peer)?;
    match TAKEN_ON.with_borrow_mut(|states| states.remove(&connection)) {
        Some(state) => Ok(Conversation::resume(session, protocol.decode(&state)?)),
        None => Ok(Conversation::open(session)),
    }
}

/// Takes a connection on, if the protocol can go on with its state.
pub fn accept<P: Protocol>(
    protocol: &P,
    connection: ConnectionId,
    state: State,
) -> Result<(), String> {
    protocol.decode(&state)?;
    TAKEN_ON.with_borrow_mut(|states| states.insert(connection, state));
    Ok(())
}

/// The state of a conversation, under the tag of its protocol. What is in its log is
/// printed.
pub fn save<P: Protocol>(conversation: &mut Conversation<P::Session>) -> Option<State> {
    crate::print_log(&mut conversation.output.log);
    State::encode(P::TAG, &conversation.save())
}

/// Keeps a state until it is asked for.
pub fn give_up(connection: ConnectionId, state: Option<State>) {
    if let Some(state) = state {
        GIVEN_UP.with_borrow_mut(|states| states.insert(connection, state));
    }
}

/// The state that was kept for a connection.
pub fn given_up(connection: ConnectionId) -> Option<State> {
    GIVEN_UP.with_borrow_mut(|states| states.remove(&connection))
}
