//! The components that are put beside a handler. Their sources are in `guests/runner/`.

use crate::component::Component;
use crate::contract::Contract;

/// The components of a command, beside its handler.
pub(super) struct Runner {
    /// What the handler gets its sockets from. `None` for datagrams, which are no
    /// resources: their sockets are the system's own.
    pub(super) sockets: Option<&'static [u8]>,
    /// What calls the handler, and exports `wasi:cli/run`.
    pub(super) main: &'static [u8],
}

impl Runner {
    /// The runner of a handler. `None` for a program, which needs none.
    pub(super) fn of(handler: &Component) -> Option<Self> {
        let uses_files = handler
            .imports()
            .iter()
            .any(|import| import.starts_with("wasi:filesystem/") && import.contains("@0.2."));
        let p2_sockets = if uses_files {
            "sockets-files"
        } else {
            "sockets"
        };
        let (sockets, main) = match handler.contract() {
            Contract::Blocking => (Some(p2_sockets), "blocking"),
            Contract::Evented => (Some(p2_sockets), "evented"),
            Contract::Concurrent => (Some("sockets-p3"), "concurrent"),
            Contract::Datagram => (None, "datagram"),
            Contract::DatagramConcurrent => (None, "datagram-concurrent"),
            Contract::Command | Contract::CommandP3 => return None,
        };
        let sockets = match sockets {
            Some(name) => Some(embedded(name)?),
            None => None,
        };
        let main = embedded(main)?;
        Some(Self { sockets, main })
    }
}

fn embedded(name: &str) -> Option<&'static [u8]> {
    let all: &[(&str, &'static [u8])] = include!(concat!(env!("OUT_DIR"), "/runners.rs"));
    all.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::builtin;

    /// Of how many bytes the runners are that are said to be small.
    const SMALL: usize = 150 * 1024;

    #[test]
    fn every_handler_has_a_runner() {
        for builtin in builtin::all() {
            let handler = builtin::load(&format!("builtin:{}", builtin.name)).unwrap();
            let is_program = handler.contract().is_command();
            assert_eq!(Runner::of(&handler).is_none(), is_program, "{builtin:?}");
        }
    }

    #[test]
    fn runners_are_small() {
        for (sockets, main) in [("sockets", "blocking"), ("sockets", "evented")] {
            let size = embedded(sockets).unwrap().len() + embedded(main).unwrap().len();
            assert!(size < SMALL, "{main}: {size}");
        }
        for main in ["datagram", "datagram-concurrent"] {
            assert!(embedded(main).unwrap().len() < SMALL, "{main}");
        }
    }
}
