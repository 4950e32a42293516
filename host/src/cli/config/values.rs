//! The values of one table: from TOML to the arguments of options.

use super::keys::{Checker, Key, Shape};
use super::mistake::Mistake;
use super::paths::Base;
use crate::text;
use std::ffi::{OsStr, OsString};
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

/// The longest value that a mistake shows, in characters.
const MAX_SHOWN: usize = 60;

/// What a file says for one key.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// Where the key is.
    pub(super) at: usize,
    /// The values as arguments of the command line, each with its place. None for a flag
    /// that is off, and for an empty array.
    pub(super) arguments: Vec<(usize, OsString)>,
    /// Whether a value was refused.
    pub(super) is_wrong: bool,
}

/// Reads the value of one key. What is wrong with it goes to `mistakes`.
pub(super) fn read(
    key: &Key,
    at: usize,
    value: &Spanned<DeValue<'_>>,
    base: &Base,
    checker: &mut Checker,
    mistakes: &mut Vec<Mistake>,
) -> Setting {
    let known = mistakes.len();
    let mut reader = Reader {
        key,
        base,
        checker,
        mistakes,
        arguments: Vec::new(),
    };
    reader.read(value);
    let arguments = reader.arguments;
    let is_wrong = mistakes.len() > known;
    Setting {
        at,
        arguments,
        is_wrong,
    }
}

struct Reader<'a> {
    key: &'a Key,
    base: &'a Base,
    checker: &'a mut Checker,
    mistakes: &'a mut Vec<Mistake>,
    arguments: Vec<(usize, OsString)>,
}

impl Reader<'_> {
    fn read(&mut self, value: &Spanned<DeValue<'_>>) {
        match (self.key.shape, value.get_ref()) {
            (Shape::Pairs, DeValue::Table(table)) => self.pairs(table),
            (Shape::Pairs, _) => self.wrong_type(value, "a table"),
            (_, DeValue::Array(values)) if self.key.repeats => {
                for value in values.iter() {
                    self.one(value);
                }
            }
            _ => self.one(value),
        }
    }

    /// Reads a value that is no array.
    fn one(&mut self, value: &Spanned<DeValue<'_>>) {
        let at = value.span().start;
        match (self.key.shape, value.get_ref()) {
            (Shape::Flag, DeValue::Boolean(true)) => {
                let argument = self.key.argument(OsStr::new(""));
                self.arguments.push((at, argument));
            }
            (Shape::Flag, DeValue::Boolean(false)) => {}
            (Shape::Flag, _) => self.wrong_type(value, "true or false"),
            (Shape::Integer { .. } | Shape::Number, DeValue::Integer(number)) => {
                self.take(at, &integer(number));
            }
            (Shape::Number, DeValue::Float(number)) => self.take(at, number.as_str()),
            (Shape::Integer { .. }, _) => self.wrong_type(value, "a whole number"),
            (Shape::Number, _) => self.wrong_type(value, "a number"),
            (Shape::Text, DeValue::String(text)) => self.take(at, text),
            (Shape::Text | Shape::Pairs, _) => self.wrong_type(value, "a string"),
        }
    }

    /// Reads a table of names and values.
    fn pairs(&mut self, table: &DeTable<'_>) {
        let mut pairs: Vec<_> = table.iter().collect();
        pairs.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in pairs {
            let at = value.span().start;
            match value.get_ref() {
                DeValue::String(text) => self.take(at, &format!("{}={text}", name.get_ref())),
                other => {
                    let (key, name) = (self.key.name(), name.get_ref());
                    let advice = scalar(other).map_or_else(String::new, |text| {
                        format!("; write {name} = {}", quoted(&text))
                    });
                    let kind = kind(other);
                    let text = format!("{key}: {name} is {kind}, and a string is wanted{advice}");
                    self.mistakes.push(Mistake::new(at, text));
                }
            }
        }
    }

    /// Takes a value that has the right type, if the option's parser takes it.
    fn take(&mut self, at: usize, value: &str) {
        if value.contains('\0') {
            // No argument of a process has one, and so no option expects it.
            let text = format!(
                "{}: a zero character is in it; leave it out",
                self.key.name()
            );
            self.mistakes.push(Mistake::new(at, text));
            return;
        }
        let resolved = self.base.resolve(self.key, value);
        match self.checker.check(self.key, &resolved) {
            Ok(()) => {
                let argument = self.key.argument(&resolved);
                self.arguments.push((at, argument));
            }
            Err(refused) => {
                let (key, reason) = (self.key.name(), refused.reason);
                let shown = match self.key.shape {
                    Shape::Text | Shape::Pairs | Shape::Flag => quoted(value),
                    Shape::Integer { .. } | Shape::Number => value.to_owned(),
                };
                self.mistakes.push(Mistake {
                    fault: refused.fault,
                    ..Mistake::new(at, format!("{key} = {shown}: {reason}"))
                });
            }
        }
    }

    /// Says that a value has another type than the key's, and what to write instead.
    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let (key, is) = (self.key.name(), kind(value.get_ref()));
        let advice = self.advice(value.get_ref());
        let text = format!("{key} is {is}, and {wanted} is wanted; {advice}");
        let at = value.span().start;
        self.mistakes.push(Mistake::new(at, text));
    }

    /// Says what to write in place of a value of another type.
    fn advice(&mut self, value: &DeValue<'_>) -> String {
        let key = self.key.name();
        if self.key.shape == Shape::Pairs {
            let names = self.key.value_name();
            let (name, named) = names.split_once('=').unwrap_or((names, "VALUE"));
            return format!("write {key} = {{ {name} = \"{named}\" }}");
        }
        if let DeValue::Array(_) = value
            && !self.key.repeats
        {
            return format!("write one value, without brackets: {}", self.example());
        }
        if self.key.shape == Shape::Flag {
            return match value {
                DeValue::String(text) if text == "false" => format!("write {key} = false"),
                _ => format!("write {key} = true"),
            };
        }
        // What was meant may be in quotes, or lack them.
        let Some(meant) = scalar(value) else {
            return format!("write {}", self.example());
        };
        match self.key.shape {
            Shape::Text => match self.checker.check(self.key, OsStr::new(&meant)) {
                Ok(()) => format!("write {key} = {}", quoted(&meant)),
                Err(refused) => refused.reason,
            },
            Shape::Integer { .. } if meant.parse::<i128>().is_err() => {
                format!("write {}", self.example())
            }
            Shape::Number if meant.parse::<f64>().is_err() => format!("write {}", self.example()),
            _ => format!("write {key} = {meant}"),
        }
    }

    /// The key with a value that may stand there.
    fn example(&self) -> String {
        let key = self.key.name();
        let default = self.key.arg.get_default_values().first();
        let default = default.map(|default| default.to_string_lossy().into_owned());
        let example = match self.key.shape {
            Shape::Integer { .. } | Shape::Number => default.unwrap_or_else(|| "1".to_owned()),
            _ => match default {
                Some(default) => quoted(&default),
                None => format!("\"{}\"", self.key.value_name()),
            },
        };
        format!("{key} = {example}")
    }
}

/// A number, in decimal notation.
fn integer(number: &DeInteger<'_>) -> String {
    match i128::from_str_radix(number.as_str(), number.radix()) {
        Ok(number) => number.to_string(),
        // Too large for any option, whose parser says so.
        Err(_) => number.to_string(),
    }
}

/// The type of a value, with its article.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// A value without quotes. `None` if it is an array or a table.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(integer(number)),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(value) => Some(value.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// A text as TOML has it, cut to [`MAX_SHOWN`] characters.
pub(super) fn quoted(text: &str) -> String {
    let shown = match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    };
    let shown = shown.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text::escape(&shown))
}
