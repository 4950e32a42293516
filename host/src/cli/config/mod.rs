//! `sockserve.toml`: several services of one process, in a file.
//!
//! The keys are the options of `serve`, and their values go through the options' own
//! parsers. All mistakes of a file are found at once, each with its place.
//!
//! A [`Configuration`] is what a file without mistakes says. Two of them can be compared: a
//! service has its settings as the arguments that they stand for, by key.
//!
//! | file | |
//! | --- | --- |
//! | `reading` | the bytes, whatever the path names |
//! | `mistake` | what is wrong, and at which line and column |
//! | `keys` | the options as keys |
//! | `tables` | the tables of a file, and keys that are not known |
//! | `values` | a value, as arguments of its option |
//! | `paths` | relative paths begin at the file |
//! | `difference` | what a configuration changes of another |
//! | `clashes` | what services must not share |
//! | `schema` | the keys as a JSON schema |

mod clashes;
pub(super) mod difference;
mod keys;
mod mistake;
mod paths;
mod reading;
pub(super) mod schema;
mod tables;
#[cfg(test)]
mod tests;
mod values;

pub(super) use mistake::{Fault, Mistake, Mistakes, Source};

use super::log;
use super::serve::{IdentityOptions, ProcessOptions, ServiceKeys};
use crate::text;
use clap::Args;
use keys::Keys;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tables::{Reader, Settings, Table};
use toml::de::DeTable;

/// The options that are keys at the top of a file.
#[derive(Args)]
struct ProcessKeys {
    #[command(flatten)]
    log: log::Options,
    #[command(flatten)]
    process: ProcessOptions,
    #[command(flatten)]
    _identity: IdentityOptions,
}

/// What a file says.
pub(super) struct Configuration {
    pub(super) source: Source,
    /// The keys of the process, as arguments of the command line.
    pub(super) process: BTreeMap<String, Vec<OsString>>,
    /// The services, in the order of the file.
    pub(super) services: Vec<Described>,
}

impl Configuration {
    /// The path of the control socket, if the file names one.
    pub(super) fn control(&self) -> Option<PathBuf> {
        self.keys()?.process.control
    }

    /// The files that the process makes, each with its key.
    pub(super) fn files(&self) -> Vec<(&'static str, PathBuf)> {
        let Some(keys) = self.keys() else {
            return Vec::new();
        };
        let log = keys.log.file().map(Path::to_owned);
        let all = [("control", keys.process.control), ("log-file", log)];
        let given = all.into_iter();
        given.filter_map(|(key, path)| Some((key, path?))).collect()
    }

    /// The keys of the process. `None` if one of them needs another one that is not there.
    fn keys(&self) -> Option<ProcessKeys> {
        let arguments = self.process.values().flatten().cloned().collect();
        Keys::of::<ProcessKeys>()
            .parse::<ProcessKeys>(arguments)
            .ok()
    }

    /// The keys of the process as arguments, without those whose options are given
    /// otherwise. An option is given by its id.
    pub(super) fn process_arguments(&self, is_given: impl Fn(&str) -> bool) -> Vec<OsString> {
        let keys = Keys::of::<ProcessKeys>();
        let ours = self.process.iter().filter(|(name, _)| {
            let key = keys.find(name);
            key.is_some_and(|key| !is_given(key.arg.get_id().as_str()))
        });
        ours.flat_map(|(_, arguments)| arguments).cloned().collect()
    }
}

/// A service that a file describes.
#[derive(Clone)]
pub(super) struct Described {
    pub(super) name: String,
    /// Where its name is.
    pub(super) at: usize,
    pub(super) keys: Arc<ServiceKeys>,
    settings: Settings,
}

impl Described {
    /// Its keys with the arguments that they stand for, those of `[defaults]` among them.
    /// A service whose arguments are the same is the same service.
    pub(super) fn arguments(&self) -> BTreeMap<&str, Vec<&OsString>> {
        let settings = self.settings.iter();
        let arguments = settings.map(|(key, setting)| {
            let values = setting.arguments.iter().map(|(_, argument)| argument);
            (key.as_str(), values.collect())
        });
        arguments.collect()
    }

    /// Where a key is; the service's name if it has not the key.
    pub(super) fn place(&self, key: &str) -> usize {
        self.settings.get(key).map_or(self.at, |setting| setting.at)
    }

    /// Where the values of a key are.
    fn places(&self, key: &str) -> impl Iterator<Item = usize> {
        let setting = self.settings.get(key).into_iter();
        let values = setting.flat_map(|setting| &setting.arguments);
        values.map(|(at, _)| *at)
    }
}

/// Reads a file, which has no mistake.
pub(super) fn read(path: &Path) -> Result<Configuration, Mistakes> {
    let (configuration, mistakes) = read_all(path)?;
    match Mistakes::new(&configuration.source, mistakes) {
        Some(mistakes) => Err(mistakes),
        None => Ok(configuration),
    }
}

/// Reads a file: the services without a mistake, and the mistakes. Fails if the file cannot
/// be read at all.
pub(super) fn read_all(path: &Path) -> Result<(Configuration, Vec<Mistake>), Mistakes> {
    let source = reading::read(path)?;
    Ok(understand(path, source))
}

/// Finds out what a text says. Relative paths begin at `path`.
fn understand(path: &Path, source: Source) -> (Configuration, Vec<Mistake>) {
    let (process, service) = (Keys::of::<ProcessKeys>(), Keys::of::<ServiceKeys>());
    let (file, errors) = DeTable::parse_recoverable(source.text());
    let mut reader = Reader {
        process: &process,
        service: &service,
        base: paths::Base::of(path),
        mistakes: Vec::new(),
    };
    let tables = reader.read(file.get_ref());
    let mut mistakes = reader.mistakes;
    let is_whole = errors.is_empty();
    if is_whole && tables.services.is_empty() && mistakes.is_empty() {
        let text = "there is no service; write [services.NAME], with the keys listen and component";
        mistakes.push(Mistake::new(0, text));
    }
    let mut services = Vec::new();
    for table in tables.services {
        let known = mistakes.len();
        if is_whole {
            missing(&service, &table, &mut mistakes);
        }
        conflicts(&service, &table.settings, &mut mistakes);
        let is_wrong = |setting: &tables::Setting| setting.is_wrong;
        if mistakes.len() > known || table.settings.values().any(is_wrong) {
            continue;
        }
        match described(&service, table) {
            Ok(described) => services.push(described),
            Err(mistake) if is_whole => mistakes.push(mistake),
            // What it lacks may be in the line with the syntax error.
            Err(_) => {}
        }
    }
    conflicts(&process, &tables.process, &mut mistakes);
    let is_wrong = tables.process.values().any(|setting| setting.is_wrong);
    let first = tables.process.values().map(|setting| setting.at).min();
    let mut arguments = Vec::new();
    let mut settings = BTreeMap::new();
    for (key, setting) in tables.process {
        let values = setting.arguments.into_iter().map(|(_, argument)| argument);
        let values: Vec<_> = values.collect();
        arguments.extend(values.iter().cloned());
        settings.insert(key, values);
    }
    let options = match process.parse::<ProcessKeys>(arguments) {
        Ok(keys) => Some(keys.process),
        Err(text) => {
            // Values were checked before: an option needs another one.
            if is_whole && !is_wrong {
                mistakes.push(Mistake::new(first.unwrap_or_default(), text));
            }
            None
        }
    };
    mistakes.extend(clashes::find(&source, &services, options.as_ref()));
    let mut mistakes = beside(&source, mistakes, &errors);
    mistakes.extend(syntax(&source, &errors));
    let configuration = Configuration {
        source,
        process: settings,
        services,
    };
    (configuration, mistakes)
}

/// Finds the keys that a service needs and does not have.
fn missing(keys: &Keys, table: &Table, mistakes: &mut Vec<Mistake>) {
    for key in keys.iter().filter(|key| key.arg.is_required_set()) {
        let setting = table.settings.get(key.name());
        let has = setting.is_some_and(|it| it.is_wrong || !it.arguments.is_empty());
        if !has {
            let (service, name, value) = (&table.name, key.name(), key.value_name());
            let text = format!("the service {service} has no {name}; write {name} = \"{value}\"");
            mistakes.push(Mistake::new(table.at, text));
        }
    }
}

/// Finds the keys that do not go together.
fn conflicts(keys: &Keys, settings: &Settings, mistakes: &mut Vec<Mistake>) {
    let given = |key: &str| {
        let setting = settings.get(key);
        setting.filter(|setting| !setting.arguments.is_empty())
    };
    let mut told: Vec<(&str, &str)> = Vec::new();
    for (one, other) in keys.conflicts() {
        let (Some(first), Some(second)) = (given(one), given(other)) else {
            continue;
        };
        // The option that the other names may name it as well.
        if told.contains(&(other, one)) {
            continue;
        }
        told.push((one, other));
        let (first, second) = if first.at < second.at {
            ((one, first), (other, second))
        } else {
            ((other, second), (one, first))
        };
        let text = format!(
            "{} does not go together with {}; leave one of them out",
            second.0, first.0
        );
        mistakes.push(Mistake::new(second.1.at, text));
    }
}

/// Makes a service of what its table says.
fn described(keys: &Keys, table: Table) -> Result<Described, Mistake> {
    let Table { name, at, settings } = table;
    let (mut options, mut rest) = (vec![format!("--name={name}").into()], Vec::new());
    let mut component = Vec::new();
    for (key, setting) in &settings {
        let arg = keys.find(key).map(|key| &key.arg);
        let arguments = setting.arguments.iter().map(|(_, it)| it.clone());
        match arg {
            Some(arg) if arg.is_last_set() => rest.extend(arguments),
            Some(arg) if arg.is_positional() => component.extend(arguments),
            _ => options.extend(arguments),
        }
    }
    options.extend(component);
    options.push("--".into());
    options.extend(rest);
    let keys = keys.parse(options);
    let keys = keys.map_err(|text| Mistake::new(at, format!("the service {name}: {text}")))?;
    Ok(Described {
        name,
        at,
        keys: Arc::new(keys),
        settings,
    })
}

/// The mistakes that are not in a line with a syntax error: there the error says it.
fn beside(source: &Source, all: Vec<Mistake>, errors: &[toml::de::Error]) -> Vec<Mistake> {
    let places = errors.iter().filter_map(toml::de::Error::span);
    let lines: Vec<_> = places.map(|span| source.line(span.start)).collect();
    let mut all = all;
    all.retain(|mistake| {
        let line = mistake.at.map(|at| source.line(at));
        line.is_none_or(|line| !lines.contains(&line))
    });
    all
}

/// The syntax errors as mistakes, one per line: a second one mostly follows from the first.
fn syntax(source: &Source, errors: &[toml::de::Error]) -> Vec<Mistake> {
    let place = |error: &toml::de::Error| error.span().unwrap_or_default().start;
    let mut errors: Vec<_> = errors.iter().collect();
    errors.sort_by_key(|error| place(error));
    errors.dedup_by_key(|error| source.line(place(error)));
    let mistake = |error: &toml::de::Error| {
        let span = error.span().unwrap_or_default();
        let written = source.text().get(span.clone()).unwrap_or_default();
        let message = error.message();
        // The parser guesses by the first letter what a word was to be.
        let is_word = message.starts_with("string values must be quoted")
            || message.starts_with("invalid boolean");
        let text = match written {
            "" if is_word => "a value is missing; write one after =".to_owned(),
            word if is_word => format!(
                "{} is no value; a string stands in quotes: {}",
                text::escape(word),
                values::quoted(word)
            ),
            key if message == "duplicate key" => {
                format!("{} is there twice; write it once", text::escape(key))
            }
            _ => message.to_owned(),
        };
        Mistake::new(span.start, text)
    };
    errors.into_iter().map(mistake).collect()
}
