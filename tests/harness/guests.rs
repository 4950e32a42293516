//! The guests, as constants that a test names to start one.
//!
//! The constants are made from the list of guests that were built, and an unused
//! one is an error: a guest that no test drives does not compile.

use std::path::{Path, PathBuf};

/// A component of `guests/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guest {
    /// Family and contract, as in the file's name: `echo_blocking`.
    pub(crate) name: &'static str,
}

macro_rules! constants {
    ($($name:ident)*) => {
        $(
            #[deny(dead_code, reason = "every guest is driven by some test")]
            #[allow(non_upper_case_globals, reason = "the name is the file's")]
            pub(crate) const $name: Guest = Guest { name: stringify!($name) };
        )*
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
        self.name.rsplit('_').next().unwrap()
    }

    /// The dispatches that its contract can run under.
    pub(crate) fn dispatches(self) -> &'static [&'static str] {
        match self.contract() {
            "evented" => &["poll"],
            _ => &["sequential", "threaded", "poll"],
        }
    }

    /// Whether one instance serves all connections under `dispatch`.
    pub(crate) fn shares_instance(self, dispatch: &str) -> bool {
        dispatch == "poll" && self.contract() != "blocking"
    }
}

/// Every guest of a list with every dispatch that it can run under.
pub(crate) fn pairs(guests: &[Guest]) -> impl Iterator<Item = (Guest, &'static str)> {
    let pairs = |&guest: &Guest| {
        guest
            .dispatches()
            .iter()
            .map(move |&dispatch| (guest, dispatch))
    };
    guests.iter().flat_map(pairs)
}
