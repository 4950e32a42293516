//! The components that are embedded in this crate: echo, upper, time and chat, each
//! in the contracts that suit it.
//!
//! Their sources are in `guests/`, and `guests/README.md` describes their options.

use crate::component::{Component, ComponentError};
use std::ffi::OsStr;
use std::fmt;

/// The prefix of a path that names an embedded component.
pub const PREFIX: &str = "builtin:";

/// An embedded component.
#[derive(Clone, Copy)]
pub struct Builtin {
    /// Its name: the family and the contract, for example `echo-blocking`.
    pub name: &'static str,
    /// The component file.
    pub bytes: &'static [u8],
}

impl fmt::Debug for Builtin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builtin")
            .field("name", &self.name)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// A path names an embedded component that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("there is no builtin:{name}; there are {}", names())]
pub struct UnknownBuiltin {
    name: String,
}

/// Why a component could not be found by its path or builtin name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no such embedded component.
    #[error(transparent)]
    Unknown(#[from] UnknownBuiltin),
    /// There is no such file, or it is not a handler.
    #[error(transparent)]
    Component(#[from] ComponentError),
}

/// Returns all embedded components, sorted by name.
pub fn all() -> impl Iterator<Item = Builtin> {
    let embedded: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/builtins.rs"));
    embedded.iter().map(|(name, bytes)| Builtin { name, bytes })
}

/// Finds an embedded component by its name, without the prefix.
pub fn find(name: &str) -> Result<Builtin, UnknownBuiltin> {
    all()
        .find(|builtin| builtin.name == name)
        .ok_or_else(|| UnknownBuiltin {
            name: name.to_owned(),
        })
}

/// Reads the component that `path` names: a file, or `builtin:NAME`.
pub fn load(path: &str) -> Result<Component, LoadError> {
    load_path(path.as_ref())
}

/// Reads the component that `path` names. The path need not be UTF-8.
pub fn load_path(path: &OsStr) -> Result<Component, LoadError> {
    match embedded(path) {
        Some(component) => component,
        None => Ok(Component::from_file(path.as_ref())?),
    }
}

/// Reads the component that an argument on this process's command line names. It
/// may be a pipe.
pub fn load_argument(argument: &OsStr) -> Result<Component, LoadError> {
    match embedded(argument) {
        Some(component) => component,
        None => Ok(Component::from_command_line(argument.as_ref())?),
    }
}

/// Whether `path` names an embedded component, known or not.
pub(crate) fn is_builtin(path: &OsStr) -> bool {
    path.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// Returns the embedded component that `path` names. `None` if the path names a
/// file.
fn embedded(path: &OsStr) -> Option<Result<Component, LoadError>> {
    let path = path.to_str()?;
    let name = path.strip_prefix(PREFIX)?;
    Some(find(name).map_err(LoadError::from).and_then(|builtin| {
        let component = Component::from_bytes(path, builtin.bytes.to_vec());
        component.map_err(LoadError::from)
    }))
}

fn names() -> String {
    let names: Vec<_> = all().map(|builtin| builtin.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Contract;

    #[test]
    fn a_builtins_name_ends_with_its_contract() {
        for builtin in all() {
            let component = load(&format!("{PREFIX}{}", builtin.name)).unwrap();
            let contract = component.contract().to_string();
            assert!(builtin.name.ends_with(&contract), "{}", builtin.name);
        }
    }

    #[test]
    fn every_family_is_there_in_its_contracts() {
        let names: Vec<_> = all().map(|builtin| builtin.name).collect();
        for family in ["echo", "time"] {
            for contract in Contract::ALL {
                let name = format!("{family}-{contract}");
                assert!(names.contains(&name.as_str()), "{name}");
            }
        }
        assert!(names.contains(&"chat-evented"));
        assert!(names.contains(&"chat-concurrent"));
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        let error = load("builtin:nothing").err().unwrap().to_string();
        assert!(error.starts_with("there is no builtin:nothing; there are "));
        assert!(error.contains("echo-blocking"));
    }
}
