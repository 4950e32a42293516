//! The names of services.

use crate::Contract;
use crate::component::builtin;
use std::ffi::OsStr;

/// The longest name of a service, in bytes.
const MAX_NAME: usize = 64;

/// The characters of a name, as a regular expression has them.
pub(in crate::cli) const NAME_CHARACTERS: &str = "[A-Za-z0-9._-]";

/// Parses the name of a service in the arguments.
pub(in crate::cli) fn parse(name: &str) -> Result<String, &'static str> {
    if is_name(name) {
        Ok(name.to_owned())
    } else {
        Err("a service's name has letters, digits, `.`, `_` and `-`, and at most 64 of them")
    }
}

/// Whether the name can stand in a ready line and in a path.
fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_name_character)
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

/// Returns the name of a service by its component: `echo` for
/// `builtin:echo-blocking`, `path/echo_blocking.wasm` and `echo.wasm`.
pub(super) fn of_component(component: &OsStr) -> String {
    let component = component.to_string_lossy();
    let name = component
        .strip_prefix(builtin::PREFIX)
        .unwrap_or(&component);
    let stem = std::path::Path::new(name).file_stem();
    let name: String = stem
        .map_or_else(|| name.into(), |stem| stem.to_string_lossy())
        .chars()
        .map(|c| if is_name_character(c) { c } else { '-' })
        .take(MAX_NAME)
        .collect();
    // The longest first: one contract's name ends in another's.
    for contract in Contract::ALL.into_iter().rev() {
        for separator in ["-", "_"] {
            let contract = contract.to_string().replace('-', separator);
            let suffix = format!("{separator}{contract}");
            if let Some(family) = name.strip_suffix(&suffix)
                && !family.is_empty()
            {
                return family.to_owned();
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_after_its_component() {
        for (component, name) in [
            ("builtin:echo-blocking", "echo"),
            ("target/release/time_concurrent.wasm", "time"),
            ("echo.wasm", "echo"),
            ("builtin:echo-datagram-concurrent", "echo"),
            ("echo_datagram_concurrent.wasm", "echo"),
            ("echo_datagram.wasm", "echo"),
            ("my-handler.wasm", "my-handler"),
            ("-blocking.wasm", "-blocking"),
            ("my handler/it is.wasm", "it-is"),
        ] {
            assert_eq!(of_component(component.as_ref()), name, "{component}");
        }
    }
}
