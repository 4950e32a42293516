//! What a misbehaving guest does when a connection is handed over.
//!
//! A state comes back when no other version accepts it. So the guest has to accept its
//! own states, also the ones that it has made wrong.

use crate::options::Manner;
use crate::{spin, trap};
use sockserve_handler::session::State;
use std::sync::atomic::{AtomicU32, Ordering};

/// The error of `refuse`.
const REFUSAL: &str = "deliberate refusal";

/// The size of the state of `large`: twice as large as the contract permits.
const LARGE: usize = 2 << 20;

/// The first bytes of a state of `garbage`. No real state begins with them.
const GARBAGE: [u8; 8] = [0xff; 8];

/// The tag of `unknown`.
const UNKNOWN: &str = "nobody/9";

/// How many connections this instance was asked to give up, under `trap-second` and
/// `trap-hundredth`.
static GIVEN_UP: AtomicU32 = AtomicU32::new(0);

impl Manner {
    /// Changes a state that is given up, or traps.
    pub fn give_up(self, state: State) -> Option<State> {
        let State { mut tag, mut bytes } = state;
        match self {
            Self::TrapHandOver => trap(),
            Self::TrapSecond if GIVEN_UP.fetch_add(1, Ordering::Relaxed) == 1 => trap(),
            Self::TrapHundredth if GIVEN_UP.fetch_add(1, Ordering::Relaxed) == 99 => trap(),
            Self::None => return None,
            Self::Unknown => tag = UNKNOWN.to_owned(),
            Self::Garbage => bytes = [GARBAGE.as_slice(), &bytes].concat(),
            Self::Large => {
                let length = u32::try_from(bytes.len()).unwrap_or_default();
                bytes.resize(LARGE, 0);
                bytes.extend(length.to_le_bytes());
            }
            _ => {}
        }
        Some(State { tag, bytes })
    }

    /// Changes a state before it is accepted, refuses it, or traps.
    pub fn accept(self, state: State) -> Result<State, String> {
        let State { mut tag, mut bytes } = state;
        match self {
            Self::Refuse => return Err(REFUSAL.to_owned()),
            Self::TrapAccept => trap(),
            Self::SpinAccept => spin(),
            Self::Unknown if tag == UNKNOWN => tag = echo_protocol::TAG.to_owned(),
            Self::Garbage => {
                if let Some(rest) = bytes.strip_prefix(&GARBAGE) {
                    bytes = rest.to_vec();
                }
            }
            Self::Large if bytes.len() > LARGE => {
                let length = bytes
                    .last_chunk()
                    .map_or(0, |last| u32::from_le_bytes(*last));
                bytes.truncate(usize::try_from(length).unwrap_or_default());
                // Many states may come back before any of their connections is served.
                bytes.shrink_to_fit();
            }
            _ => {}
        }
        Ok(State { tag, bytes })
    }
}
