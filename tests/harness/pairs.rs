//! Tests of pairs. A pair is a guest and a dispatch under which it runs.
//!
//! Such a test is a function that takes a pair. A line above it says which pairs:
//!
//! ```text
//! for_each_pair! { echo: a_line_comes_back }
//! fn a_line_comes_back(guest: Guest, dispatch: &str) { … }
//! ```
//!
//! This makes one test per pair: `a_line_comes_back::blocking_sequential` and so on,
//! to `a_line_comes_back::evented_poll`. The line can say:
//!
//! | | |
//! | --- | --- |
//! | `echo` | all pairs of a family |
//! | `echo without sequential` | some of them; `CHOICES` in `host/build.rs` has all such words |
//! | `echo [blocking_threaded, evented_poll]` | only these |
//! | `echo_datagrams` | the family's guests for datagrams |
//! | `chat shared, echo` | pairs of several families; each family's tests are in a module |
//!
//! The pairs are made from the guests that were built:
//!
//! - A new guest is in every test of its family that does not list its pairs.
//! - A pair that no test uses does not compile.
//! - A dispatch or a contract that `host/build.rs` does not know fails the test
//!   below.

use super::Guest;
use super::command::sockserve;
use super::guests::NAMES;

/// A guest, and a dispatch under which it runs.
pub(crate) type Pair = (Guest, &'static str);

/// What is known of a pair.
pub(super) struct Row {
    pub(super) guest: &'static str,
    pub(super) dispatch: &'static str,
    /// Whether one instance serves all connections.
    pub(super) shared: bool,
    /// Whether this is the guest's default dispatch.
    default: bool,
}

macro_rules! constants {
    ($($family:ident {
        $($pair:ident($guest:ident, $dispatch:literal, shared: $shared:literal, default: $default:literal))*
    })*) => {
        $(
            pub(crate) mod $family {
                $(
                    #[allow(non_upper_case_globals, reason = "the name is a test's")]
                    pub(crate) const $pair: super::Pair =
                        ($crate::harness::guests::$guest, $dispatch);
                )*
            }
        )*

        /// All pairs. This list does not count as a use of them.
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

/// Makes one test per pair from a function. The documentation of this module says
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

/// The guests of a family for connections that run under a dispatch, for a test of a pair that needs
/// other guests too.
pub(crate) fn guests_under(family: &str, dispatch: &str) -> impl Iterator<Item = Guest> {
    ROWS.iter()
        .filter(move |row| row.dispatch == dispatch)
        .map(|row| Guest { name: row.guest })
        .filter(move |guest| guest.family() == family)
        .filter(|guest| !guest.takes_datagrams() && guest.contract() != "command")
}

/// The table in `host/build.rs` has all dispatches of each guest, and no others.
#[test]
fn the_pairs_are_the_dispatches_that_inspect_prints() {
    for &name in NAMES {
        let outcome = sockserve(["inspect".as_ref(), Guest { name }.path().as_os_str()]);
        // A guest that is made to be refused has no pairs, and neither have those that only
        // `state` serves.
        if outcome.status != Some(0) || name.starts_with("faults_state_") {
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
