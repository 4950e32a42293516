//! What a misbehaving guest does when its instance is to save what it knows, or to begin
//! with what another has saved.

use crate::options::Keeping;
use crate::{spin, trap};
use sockserve_handler::session::State;

/// Names the format of what an instance saves.
const TAG: &str = "faults/1";

/// How much `much` adds: more than any other result of a call may have.
const MUCH: usize = 8 << 20;

impl Keeping {
    /// Saves what the instance knows, or does not.
    pub fn save(self, known: &[u8]) -> Option<State> {
        let mut state = State {
            tag: TAG.to_owned(),
            bytes: known.to_vec(),
        };
        match self {
            Self::Nothing => return None,
            Self::TrapSave => trap(),
            Self::SpinSave => spin(),
            Self::WaitSave => std::thread::sleep(std::time::Duration::from_secs(3600)),
            Self::Much => state.bytes.resize(known.len() + MUCH, 0),
            Self::Foreign => state.tag = "nobody/9".to_owned(),
            Self::Keep | Self::Refuse | Self::TrapRestore | Self::SpinRestore => {}
        }
        Some(state)
    }

    /// Returns what another instance knew, or refuses it.
    pub fn restore(self, state: State) -> Result<Vec<u8>, String> {
        let State { tag, mut bytes } = state;
        match self {
            Self::Refuse => return Err("deliberate refusal".to_owned()),
            Self::TrapRestore => trap(),
            Self::SpinRestore => spin(),
            Self::Much => bytes.truncate(bytes.len().saturating_sub(MUCH)),
            _ => {}
        }
        if tag == TAG {
            Ok(bytes)
        } else {
            Err(format!("the tag is {tag}: expected {TAG}"))
        }
    }
}
