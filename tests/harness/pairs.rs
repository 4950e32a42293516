//! Tests of pairs: of a guest, and a dispatch that it runs under.
//!
//! Such a test is a function of a pair, with a line above it that says for which
//! pairs it is a test:
//!
//! ```text
//! for_each_pair! { echo: a_line_comes_back }
//! fn a_line_comes_back(guest: Guest, dispatch: &str) { … }
//! ```
//!
//! That makes `a_line_comes_back::blocking_sequential` and so on to
//! `a_line_comes_back::evented_poll`, each a test of its own. Of the pairs of a
//! family a line takes
//!
//! | | |
//! | --- | --- |
//! | `echo` | all |
//! | `echo without sequential` | some: `CHOICES` in `host/build.rs` has all such words |
//! | `echo [blocking_threaded, evented_poll]` | these |
//! | `chat shared, echo` | pairs of several families: the tests are in a module for each |
//!
//! The pairs are made from the guests that were built. So a new guest is in each
//! test of its family that takes more than single ones; a pair that is in no test
//! does not compile; and a dispatch or contract that `host/build.rs` does not know
//! fails the test below.

use super::Guest;
use super::command::sockserve;
use super::guests::NAMES;

/// A guest, and a dispatch that it runs under.
pub(crate) type Pair = (Guest, &'static str);

/// What is known of a pair.
pub(super) struct Row {
    pub(super) guest: &'static str,
    pub(super) dispatch: &'static str,
    /// Whether one instance serves all connections.
    pub(super) shared: bool,
    /// Whether the guest runs under this dispatch if nobody asks for another.
    default: bool,
}

macro_rules! constants {
    ($($family:ident {
        $($pair:ident($guest:ident, $dispatch:literal, shared: $shared:literal, default: $default:literal))*
    })*) => {
        $(
            pub(crate) mod $family {
                $(
                    #[deny(dead_code, reason = "every pair is in some test")]
                    #[allow(non_upper_case_globals, reason = "the name is a test's")]
                    pub(crate) const $pair: super::Pair =
                        ($crate::harness::guests::$guest, $dispatch);
                )*
            }
        )*

        /// All pairs. To be in this list is not to be in a test.
        pub(super) const ROWS: &[Row] = &[$($(
            Row {
                guest: stringify!($guest),
                dispatch: $dispatch,
                shared: $shared,
                default: $default,
            },
        )*)*];
    };
}

for_each_family! { constants }

/// Makes a function a test for each of these pairs. The module's documentation has
/// what can be written.
macro_rules! for_each_pair {
    ($family:ident $($words:ident)* $([$($pair:ident),+])? : $test:ident) => {
        mod $test {
            for_each_pair! { @of (super::$test) $family $($words)* $([$($pair),+])? }
        }
    };
    ($($family:ident $($words:ident)* $([$($pair:ident),+])?),+ : $test:ident) => {
        mod $test {
            $(
                mod $family {
                    for_each_pair! {
                        @of (super::super::$test) $family $($words)* $([$($pair),+])?
                    }
                }
            )+
        }
    };
    (@of $test:tt $family:ident $($words:ident)*) => {
        pairs_of! { pair_tests $test $family $($words)* }
    };
    (@of $test:tt $family:ident [$($pair:ident),+]) => {
        pair_tests! { $test $family $($pair)+ }
    };
}

macro_rules! pair_tests {
    ($test:tt $family:ident $($pair:ident)+) => {
        $(
            #[test]
            fn $pair() {
                let (guest, dispatch) = $crate::harness::pairs::$family::$pair;
                $test(guest, dispatch);
            }
        )+
    };
}

/// The guests of a family that run under a dispatch, for a test that goes through
/// them beside those that it is a test of.
pub(crate) fn guests_under(family: &str, dispatch: &str) -> impl Iterator<Item = Guest> {
    ROWS.iter()
        .filter(move |row| row.dispatch == dispatch)
        .map(|row| Guest { name: row.guest })
        .filter(move |guest| guest.family() == family)
}

/// A dispatch or a contract that is new has pairs, or this fails.
#[test]
fn every_dispatch_of_every_guest_makes_a_pair() {
    for &name in NAMES {
        let outcome = sockserve(["inspect".as_ref(), Guest { name }.path().as_os_str()]);
        // A guest that is there to be refused has none.
        if outcome.status != Some(0) {
            continue;
        }
        let known = ROWS.iter().filter(|row| row.guest == name);
        let known: Vec<String> = known
            .map(|row| {
                let mark = if row.default { " (default)" } else { "" };
                format!("{}{mark}", row.dispatch)
            })
            .collect();
        let expected = format!("dispatches  {}", known.join(", "));
        assert!(outcome.stdout.contains(&expected), "{name}: {outcome:#?}");
    }
}
