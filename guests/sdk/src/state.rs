//! What passes to another version: of a connection ([`HandOver`]) and of an instance
//! ([`InstanceState`]).

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a handler knows of one connection, and how another version continues with it. It
/// is the same under each contract, so a connection can change contracts.
///
/// What the SDK itself holds of the connection moves with it: input that is not taken yet,
/// and output that is not sent yet.
///
/// ```
/// use sockserve_handler::HandOver;
///
/// #[derive(Default)]
/// struct Lines(u64);
///
/// impl HandOver for Lines {
///     type State = u64;
///     const TAG: &'static str = "lines/1";
///
///     fn save(&self) -> u64 {
///         self.0
///     }
///
///     fn resume(state: u64) -> Self {
///         Self(state)
///     }
/// }
/// ```
pub trait HandOver: Sized {
    /// What is passed on, in the format of [postcard](https://postcard.jamesmunns.com).
    type State: Serialize + DeserializeOwned;

    /// Names the format, with a number that changes when the format changes, such as
    /// `lines/1`. Another tag is refused, and the connection stays with its version.
    const TAG: &'static str;

    /// Returns what another version needs in order to continue.
    fn save(&self) -> Self::State;

    /// Continues with what another version has saved.
    fn resume(state: Self::State) -> Self;
}

/// A handler that knows nothing of its connection: the bytes alone are handed over.
impl HandOver for () {
    type State = ();
    const TAG: &'static str = "bytes/1";

    fn save(&self) {}

    fn resume((): ()) {}
}

/// What an instance knows beyond its connections, and how another instance begins with it.
pub trait InstanceState {
    /// What is passed on, in the format of [postcard](https://postcard.jamesmunns.com).
    type State: Serialize + DeserializeOwned;

    /// Names the format, with a number that changes when the format changes, such as
    /// `kv/1`. Another tag is refused, and then there is no swap.
    const TAG: &'static str;

    /// Returns what another instance needs.
    fn save(&self) -> Self::State;

    /// Begins with what another instance has saved. This is new, and serves nothing yet.
    fn restore(&mut self, state: Self::State);
}
