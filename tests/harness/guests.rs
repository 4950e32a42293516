//! The guests, as constants that a test names to start one.
//!
//! The constants are made from the list of guests that were built, and `tests/main.rs`
//! makes an unused one an error: a guest that no test drives does not compile.

use std::path::{Path, PathBuf};

use super::pairs::ROWS;

/// A component of `guests/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    /// Family and contract, as in the file's name: `echo_blocking`.
    pub(crate) name: &'static str,
}

macro_rules! constants {
    ($($name:ident)*) => {
        $(
            #[allow(non_upper_case_globals, reason = "the name is the file's")]
            pub(crate) const $name: Guest = Guest { name: stringify!($name) };
        )*

        /// The names of all guests. This list does not count as a use of them.
        pub(crate) const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

include!(concat!(env!("OUT_DIR"), "/guests.rs"));
for_each_guest! { constants }

impl Guest {
    /// The component file.
    pub(crate) fn path(self) -> PathBuf {
        Path::new(env!("SOCKSERVE_GUESTS_DIR")).join(format!("{}.wasm", self.name))
    }

    /// The name by which it is embedded, if it is.
    pub(crate) fn builtin(self) -> String {
        format!("builtin:{}", self.name.replace('_', "-"))
    }

    /// `echo` of `echo_blocking`.
    pub(crate) fn family(self) -> &'static str {
        self.name.split('_').next().unwrap()
    }

    /// `blocking` of `echo_blocking`.
    pub(crate) fn contract(self) -> &'static str {
        match self.name.split_once('_').unwrap().1 {
            "datagram_concurrent" => "datagram-concurrent",
            "command_p3" => "command",
            contract => contract,
        }
    }

    /// The guest of another family with the same contract.
    #[track_caller]
    pub(crate) fn in_family(self, family: &str) -> Guest {
        let name = format!("{family}_{}", self.contract().replace('-', "_"));
        match NAMES.iter().copied().find(|it| *it == name) {
            Some(name) => Guest { name },
            None => panic!("there is no guest {name}"),
        }
    }

    /// Whether it serves datagrams.
    pub(crate) fn takes_datagrams(self) -> bool {
        self.contract().starts_with("datagram")
    }

    /// Whether one instance serves all connections under `dispatch`.
    pub(crate) fn shares_instance(self, dispatch: &str) -> bool {
        ROWS.iter()
            .any(|row| row.guest == self.name && row.dispatch == dispatch && row.shared)
    }
}
