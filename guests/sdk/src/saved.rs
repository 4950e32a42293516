//! How what is passed on is encoded.

use crate::session::{Phase, State};
use crate::{HandOver, InstanceState};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// All that is needed to continue a connection.
#[allow(
    dead_code,
    reason = "without a contract for connections it is not used"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedConnection<S> {
    /// What is still to be done.
    pub(crate) phase: Phase,
    /// Output that is not sent yet.
    pub(crate) output: Vec<u8>,
    /// Input that is not taken yet.
    pub(crate) input: Vec<u8>,
    /// What the handler knows.
    pub(crate) state: S,
}

#[allow(
    dead_code,
    reason = "without a contract for connections it is not used"
)]
impl<S: Serialize + DeserializeOwned> SavedConnection<S> {
    /// Encodes it with its tag.
    pub(crate) fn encode(&self, tag: &str) -> Option<State> {
        State::encode(tag, self)
    }

    /// Decodes it. The error is one line.
    pub(crate) fn decode<T: HandOver<State = S>>(state: &State) -> Result<Self, String> {
        state.decode(T::TAG)
    }
}

/// The state of an instance with its tag.
#[allow(dead_code, reason = "an instance of blocking has no state")]
pub(crate) fn save_instance<T: InstanceState>(instance: &T) -> Option<State> {
    State::encode(T::TAG, &instance.save())
}

/// Decodes the state of an instance. The error is one line, and the instance is as before.
#[allow(dead_code, reason = "an instance of blocking has no state")]
pub(crate) fn restore_instance<T: InstanceState>(
    instance: &mut T,
    state: &State,
) -> Result<(), String> {
    instance.restore(state.decode(T::TAG)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Lines(u64);

    impl HandOver for Lines {
        type State = u64;
        const TAG: &'static str = "lines/1";

        fn save(&self) -> u64 {
            self.0
        }

        fn resume(state: u64) -> Self {
            Self(state)
        }
    }

    #[test]
    fn a_connection_is_saved_in_one_format() {
        let saved = SavedConnection {
            phase: Phase::Open,
            output: b"out".to_vec(),
            input: b"in".to_vec(),
            state: Lines(300).save(),
        };
        let state = saved.encode(Lines::TAG).unwrap();
        // Versions that are built apart exchange states in this format.
        assert_eq!(state.bytes, b"\x00\x03out\x02in\xac\x02");
        let decoded = SavedConnection::decode::<Lines>(&state).unwrap();
        assert_eq!(decoded, saved);
        assert_eq!(Lines::resume(decoded.state), Lines(300));
        let refused = SavedConnection::decode::<()>(&state).unwrap_err();
        assert_eq!(refused, "state lines/1: expected bytes/1");
    }

    #[test]
    fn an_instance_that_refuses_a_state_stays_as_it_is() {
        struct Names(Vec<String>);
        impl InstanceState for Names {
            type State = Vec<String>;
            const TAG: &'static str = "names/1";
            fn save(&self) -> Vec<String> {
                self.0.clone()
            }
            fn restore(&mut self, state: Vec<String>) {
                self.0 = state;
            }
        }
        let mut names = Names(vec!["a".to_owned()]);
        let mut state = save_instance(&names).unwrap();
        names.0.clear();
        restore_instance(&mut names, &state).unwrap();
        assert_eq!(names.0, ["a"]);
        state.bytes.pop();
        let error = restore_instance(&mut names, &state).unwrap_err();
        assert_eq!(error, "state names/1: expected the format of that tag");
        assert_eq!(names.0, ["a"]);
    }
}
