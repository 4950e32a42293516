//! The keys that a configuration file may have: they are the options of `serve`.
//!
//! A key is the long name of an option, and a value is checked by the option's own parser.
//! So an option that is added is a key at once, and nothing here names one, but for `name`:
//! the name of a service is that of its table.

use super::mistake::Fault;
use crate::MaxLoad;
use crate::cli::arguments;
use crate::cli::serve::NotKnown;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Args, Command};
use std::any::TypeId;
use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};

/// The option that is no key.
const NAME: &str = "name";

/// How a key's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// `true` or `false`.
    Flag,
    /// A whole number, which is not below `least`.
    Integer { least: i64 },
    /// A number with or without a fraction.
    Number,
    /// A string.
    Text,
    /// A table: each name with its value.
    Pairs,
}

/// A key of a configuration file.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) arg: Arg,
    pub(super) shape: Shape,
    /// Whether it may have several values, in an array.
    pub(super) repeats: bool,
}

/// The keys of a place in the file.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    command: Command,
    keys: Vec<Key>,
}

/// Why a value is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: String,
    pub(super) fault: Fault,
}

impl Keys {
    /// The options of `A` as keys.
    pub(super) fn of<A: Args>() -> Self {
        let command = A::augment_args(Command::new("sockserve.toml"))
            .no_binary_name(true)
            .disable_help_flag(true);
        let args = command.get_arguments().filter(|arg| name_of(arg) != NAME);
        let keys = args.map(Key::of).collect();
        Self { command, keys }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    pub(super) fn find(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name() == name)
    }

    /// The options that go with no other of these: pairs of names.
    pub(super) fn conflicts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.keys.iter().flat_map(|key| {
            let others = self.command.get_arg_conflicts_with(&key.arg);
            others.into_iter().map(|other| (key.name(), name_of(other)))
        })
    }

    /// A check of single values. It is made once for many values.
    pub(super) fn checker(&self) -> Checker {
        let command = self.command.clone();
        Checker(command.mut_args(|arg| arg.required(false)))
    }

    /// Parses the arguments of all keys.
    pub(super) fn parse<A: Args>(&self, arguments: Vec<OsString>) -> Result<A, String> {
        let mut command = self.command.clone();
        let matches = command.try_get_matches_from_mut(arguments);
        let parsed = matches.and_then(|matches| A::from_arg_matches(&matches));
        parsed.map_err(arguments::said)
    }
}

/// Checks single values by the options' parsers.
pub(super) struct Checker(Command);

impl Checker {
    /// Checks one value.
    pub(super) fn check(&mut self, key: &Key, value: &OsStr) -> Result<(), Refused> {
        let mut arguments = Vec::new();
        if key.arg.is_last_set() {
            arguments.push("--".into());
        }
        arguments.push(key.argument(value));
        let Err(error) = self.0.try_get_matches_from_mut(arguments) else {
            return Ok(());
        };
        let of_file = |reason| {
            let fault = Fault::File;
            Err(Refused { reason, fault })
        };
        match error.kind() {
            ErrorKind::ValueValidation => match error.source() {
                Some(source) if source.is::<NotKnown>() => Err(Refused {
                    reason: source.to_string(),
                    fault: Fault::System,
                }),
                Some(source) => of_file(source.to_string()),
                None => of_file(arguments::said(error)),
            },
            ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(words)) if !words.is_empty() => {
                    of_file(format!("it must be {}", words.join(" or ")))
                }
                _ => of_file("a value is missing".to_owned()),
            },
            // What other options it needs is asked for when all are known.
            ErrorKind::MissingRequiredArgument => Ok(()),
            _ => of_file(arguments::said(error)),
        }
    }
}

impl Key {
    fn of(arg: &Arg) -> Self {
        let repeats = matches!(arg.get_action(), ArgAction::Append);
        Self {
            shape: shape(arg),
            repeats,
            arg: arg.clone(),
        }
    }

    /// The key, as it is written.
    pub(super) fn name(&self) -> &str {
        name_of(&self.arg)
    }

    /// Its value as an argument of the command line. For a flag it is the flag.
    pub(super) fn argument(&self, value: &OsStr) -> OsString {
        let mut argument = OsString::new();
        if self.arg.is_positional() {
            argument.push(value);
            return argument;
        }
        argument.push("--");
        argument.push(self.name());
        if self.shape != Shape::Flag {
            argument.push("=");
            argument.push(value);
        }
        argument
    }

    /// What its values are called in the help.
    pub(super) fn value_name(&self) -> &str {
        let names = self.arg.get_value_names().unwrap_or_default();
        names.first().map_or("", |name| name.as_str())
    }
}

/// The long name of an option, or how an argument is called that has none.
fn name_of(arg: &Arg) -> &str {
    arg.get_long().unwrap_or_else(|| arg.get_id().as_str())
}

/// Decides by an option's type how its values are written.
fn shape(arg: &Arg) -> Shape {
    if !arg.get_action().takes_values() {
        return Shape::Flag;
    }
    let names = arg.get_value_names().unwrap_or_default();
    if names.iter().any(|name| name.contains('=')) {
        return Shape::Pairs;
    }
    let id = arg.get_value_parser().type_id();
    let is_one = |types: &[TypeId]| types.iter().any(|one| id == *one);
    let unsigned = [
        TypeId::of::<u8>(),
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
    ];
    if is_one(&unsigned) {
        return Shape::Integer { least: 0 };
    }
    let not_zero = [
        TypeId::of::<NonZeroU32>(),
        TypeId::of::<NonZeroU64>(),
        TypeId::of::<NonZeroUsize>(),
    ];
    if is_one(&not_zero) {
        return Shape::Integer { least: 1 };
    }
    if is_one(&[TypeId::of::<f64>(), TypeId::of::<MaxLoad>()]) {
        return Shape::Number;
    }
    Shape::Text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::ProcessKeys;
    use crate::cli::serve::ServiceKeys;

    /// How a value is called in the help of options that take a number.
    const NUMBERS: [&str; 4] = ["N", "LEN", "PERCENT", "LOAD"];

    /// An option for a number whose type is none of those above would be a string.
    #[test]
    fn what_the_help_calls_a_number_is_one() {
        let keys = [Keys::of::<ServiceKeys>(), Keys::of::<ProcessKeys>()];
        for key in keys.iter().flat_map(Keys::iter) {
            let is_number = matches!(key.shape, Shape::Integer { .. } | Shape::Number);
            let is_called_so = NUMBERS.contains(&key.value_name());
            assert_eq!(is_number, is_called_so, "{}", key.name());
        }
    }

    #[test]
    fn an_option_is_written_by_its_type() {
        let keys = Keys::of::<ServiceKeys>();
        for (name, shape, repeats) in [
            ("max-connections", Shape::Integer { least: 0 }, false),
            (
                "max-connections-per-source",
                Shape::Integer { least: 1 },
                false,
            ),
            ("max-load", Shape::Number, false),
            ("max-memory", Shape::Text, false),
            ("unix-mode", Shape::Text, false),
            ("watch", Shape::Flag, false),
            ("env", Shape::Pairs, true),
            ("listen", Shape::Text, true),
            ("component", Shape::Text, false),
            ("args", Shape::Text, true),
        ] {
            let key = keys.find(name).unwrap();
            assert_eq!((key.shape, key.repeats), (shape, repeats), "{name}");
        }
        assert!(keys.find("name").is_none());
        assert!(keys.find("control").is_none());
        assert!(keys.find("config").is_none());
    }

    /// The checks of clap, which it makes in a debug build.
    #[test]
    fn every_option_of_a_service_excludes_a_file() {
        use clap::CommandFactory as _;
        let mut command = crate::cli::Cli::command();
        command.build();
        let serve = command.find_subcommand("serve").unwrap();
        for key in Keys::of::<ServiceKeys>().iter() {
            let mut args = serve.get_arguments();
            let arg = args.find(|arg| arg.get_id() == key.arg.get_id()).unwrap();
            let mut conflicts = serve.get_arg_conflicts_with(arg).into_iter();
            let excludes = conflicts.any(|other| other.get_id() == "config");
            assert!(excludes, "{}", key.name());
        }
    }
}
