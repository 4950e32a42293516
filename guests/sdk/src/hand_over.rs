//! The interface `hand-over`, which is the same beside every contract.
//!
//! Two lists keep states between two calls of the host: of connections that were
//! given up, until `hand-over` is called for them, and of connections that were
//! accepted, until they are served.
#![allow(missing_docs, reason = "wit-bindgen writes some items without them")]

use crate::saved::SavedConnection;
use crate::session::{Conversation, Peer, Protocol, State};
use std::cell::RefCell;
use std::collections::BTreeMap;

wit_bindgen::generate!({
    inline: "
        package sockserve:sdk;

        world hand-over {
            export sockserve:handler/hand-over@0.1.0;
        }
    ",
    path: "wit",
    pub_export_macro: true,
    default_bindings_module: "sockserve_handler::hand_over",
});

pub use exports::sockserve::handler::hand_over::{
    ConnectionId, Guest as HandOver, State as WitState,
};

/// The bindings of `rolling-hand-over`.
#[doc(hidden)]
pub mod rolling {
    wit_bindgen::generate!({
        path: "wit",
        world: "rolling-handler",
        pub_export_macro: true,
        default_bindings_module: "sockserve_handler::hand_over::rolling",
    });

    pub use exports::sockserve::handler::rolling_hand_over::Guest;
}

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
    static ACCEPTED: States = const { RefCell::new(BTreeMap::new()) };
}

/// A component that has one protocol for all its connections, and hands them over in
/// the format of that protocol.
pub trait HasProtocol {
    /// The protocol.
    type Protocol: Protocol;

    /// The protocol with its options set. The error is one line that says which option
    /// is wrong.
    fn protocol() -> Result<Self::Protocol, String>;
}

impl<T: HasProtocol> HandOver for T {
    fn hand_over(connection: ConnectionId) -> Option<WitState> {
        take_given_up(connection).map(WitState::from)
    }

    fn accept(connection: ConnectionId, state: WitState) -> Result<(), String> {
        accept(&T::protocol()?, connection, state.into())
    }
}

/// Begins the conversation over a connection. If one was handed over with the
/// connection, continues that one.
pub fn open_conversation<P: Protocol>(
    protocol: &P,
    connection: ConnectionId,
    peer: impl FnOnce() -> Result<Peer, String>,
) -> Result<Conversation<P::Session>, String> {
    let session = protocol.session(peer)?;
    match ACCEPTED.with_borrow_mut(|states| states.remove(&connection)) {
        Some(state) => Ok(Conversation::resume(session, protocol.decode(&state)?)),
        None => Ok(Conversation::open(session)),
    }
}

/// Takes over a connection, if the protocol can continue with its state.
pub fn accept<P: Protocol>(
    protocol: &P,
    connection: ConnectionId,
    state: State,
) -> Result<(), String> {
    protocol.decode(&state)?;
    ACCEPTED.with_borrow_mut(|states| states.insert(connection, state));
    Ok(())
}

/// Returns the state of a conversation, with the tag of its protocol. Prints its log.
pub fn save<P: Protocol>(conversation: &mut Conversation<P::Session>) -> Option<State> {
    crate::print_log(&mut conversation.output.log);
    State::encode(P::TAG, &conversation.save())
}

/// Keeps the state of a connection until the host calls `hand-over` for it.
pub fn give_up(connection: ConnectionId, state: Option<State>) {
    if let Some(state) = state {
        GIVEN_UP.with_borrow_mut(|states| states.insert(connection, state));
    }
}

/// Takes the state that was kept for a connection.
pub fn take_given_up(connection: ConnectionId) -> Option<State> {
    GIVEN_UP.with_borrow_mut(|states| states.remove(&connection))
}

#[cfg(any(feature = "blocking", feature = "concurrent"))]
/// Takes the state with which a connection was accepted. `None` if it is a new one.
pub(crate) fn resume<T: crate::HandOver>(
    connection: ConnectionId,
) -> Result<Option<SavedConnection<T::State>>, String> {
    ACCEPTED
        .with_borrow_mut(|states| states.remove(&connection))
        .map(|state| SavedConnection::decode::<T>(&state))
        .transpose()
}

/// Takes over a connection, if its state is one of `T`.
#[doc(hidden)]
pub fn accept_for<T: crate::HandOver>(
    connection: ConnectionId,
    state: State,
) -> Result<(), String> {
    SavedConnection::decode::<T>(&state)?;
    ACCEPTED.with_borrow_mut(|states| states.insert(connection, state));
    Ok(())
}

/// Says that the connections of an instance are independent of each other. They are then
/// handed over in small groups, and nobody waits for all of them; and several event loops can
/// have an instance each (`--loops`), also if the handler does not hand over. For `evented`
/// and `concurrent` handlers; `blocking` ones need not say it.
///
/// ```text
/// sockserve_handler::protocol!(evented, Upper, || Ok(Upper));
/// sockserve_handler::rolling_hand_over!();
/// ```
///
/// A function `fn() -> bool` says it for a handler that may be either:
/// `rolling_hand_over!(is_independent)`. It is called once per instance.
///
/// Not for handlers whose connections send to each other or change what all of them see:
/// those that have moved would miss what the others do. See `wit/hand-over.wit`.
#[macro_export]
macro_rules! rolling_hand_over {
    () => {
        $crate::rolling_hand_over!(|| true);
    };
    ($independent:expr $(,)?) => {
        const _: () = {
            struct Component;
            impl $crate::hand_over::rolling::Guest for Component {
                fn independent() -> bool {
                    ($independent)()
                }
            }
            $crate::hand_over::rolling::export!(
                Component with_types_in $crate::hand_over::rolling
            );
        };
    };
}
