//! Options are checked when an instance is made, and not when its first peer is there.
//!
//! A host makes an instance before it serves, and before it swaps. So a wrong option is
//! known by then.

use std::io::Write as _;

/// Has a function called when an instance of the component is made. Its `Err`, one line,
/// goes to standard error, and there is no instance:
///
/// ```no_run
/// # use std::str::FromStr;
/// # #[derive(Default)]
/// # struct Greeting(String);
/// # impl FromStr for Greeting {
/// #     type Err = String;
/// #     fn from_str(text: &str) -> Result<Self, String> { Ok(Self(text.to_owned())) }
/// # }
/// sockserve_handler::check_at_start!(|| sockserve_handler::option::<Greeting>("GREETING"));
/// # fn main() {}
/// ```
///
/// A host shows the line as the reason for which it does not serve the component, or does
/// not swap it in. The function may read options, files and clocks; connections are not
/// there yet. What it returns is dropped.
///
/// `protocol!` does it by itself. A component has one such function.
#[macro_export]
macro_rules! check_at_start {
    ($check:expr $(,)?) => {
        const _: () = {
            // A module's export of this name is called when it is instantiated
            //. Constructors
            // (`.init_array`) would run with the first call only.
            #[cfg(target_family = "wasm")]
            #[unsafe(no_mangle)]
            extern "C" fn _initialize() {
                $crate::start::check($check)
            }
        };
    };
}

/// Ends the instance if the check fails.
#[doc(hidden)]
pub fn check<T>(check: impl FnOnce() -> Result<T, String>) {
    if let Err(error) = check() {
        let _ = writeln!(std::io::stderr(), "{error}");
        std::process::exit(1);
    }
}
