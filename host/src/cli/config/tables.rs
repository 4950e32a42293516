//! The tables of a file: its top, `[defaults]` and `[services.NAME]`.

use super::keys::{Checker, Keys};
use super::mistake::Mistake;
use super::paths::Base;
pub(super) use super::values::Setting;
use super::values::{self, kind, quoted};
use crate::cli::serve::parse_name;
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

/// The table whose keys every service has that does not have them itself.
const DEFAULTS: &str = "defaults";
/// The table of services.
const SERVICES: &str = "services";

/// How alike two words are at least, from 0 to 1, if one is taken for the other.
const ALIKE: f64 = 0.8;

/// What the keys of a table say, by key.
pub(super) type Settings = BTreeMap<String, Setting>;

/// A service as the file has it.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: String,
    /// Where its name is.
    pub(super) at: usize,
    /// Its keys, and those of `[defaults]` that it does not have.
    pub(super) settings: Settings,
}

/// What the whole file says.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// The keys at the top.
    pub(super) process: Settings,
    /// In the order of the file.
    pub(super) services: Vec<Table>,
}

/// What reads them.
pub(super) struct Reader<'a> {
    pub(super) process: &'a Keys,
    pub(super) service: &'a Keys,
    pub(super) base: Base,
    pub(super) mistakes: Vec<Mistake>,
}

type Entry<'a, 'i> = (&'a Spanned<DeString<'i>>, &'a Spanned<DeValue<'i>>);

/// The entries of a table in the order of the file.
fn in_order<'a, 'i>(table: &'a DeTable<'i>) -> Vec<Entry<'a, 'i>> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

impl Reader<'_> {
    /// Reads a whole file. What is wrong goes to `mistakes`.
    pub(super) fn read(&mut self, file: &DeTable<'_>) -> Tables {
        let mut tables = Tables::default();
        let mut defaults = Settings::new();
        let mut checker = self.process.checker();
        let mut of_services = self.service.checker();
        for (key, value) in in_order(file) {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            match (name, value.get_ref()) {
                (DEFAULTS, DeValue::Table(table)) => {
                    defaults = self.settings(table, DEFAULTS, &mut of_services);
                }
                (SERVICES, DeValue::Table(all)) => {
                    tables.services = self.services(all, &mut of_services);
                }
                (DEFAULTS, other) => self.say(
                    at,
                    format!(
                        "{name} is {}, and a table is wanted; write [{name}]",
                        kind(other)
                    ),
                ),
                (SERVICES, other) => self.say(
                    at,
                    format!(
                        "{name} is {}, and a table per service is wanted; write [services.NAME]",
                        kind(other)
                    ),
                ),
                _ => match self.process.find(name) {
                    Some(found) => {
                        let (base, mistakes) = (&self.base, &mut self.mistakes);
                        let setting = values::read(found, at, value, base, &mut checker, mistakes);
                        tables.process.insert(name.to_owned(), setting);
                    }
                    None => {
                        let text = self.unknown_at_top(name, value.get_ref());
                        self.say(at, text);
                    }
                },
            }
        }
        for table in &mut tables.services {
            for (key, setting) in &defaults {
                let own = table.settings.entry(key.clone());
                own.or_insert_with(|| setting.clone());
            }
        }
        tables
    }

    fn say(&mut self, at: usize, text: String) {
        self.mistakes.push(Mistake::new(at, text));
    }

    fn services(&mut self, all: &DeTable<'_>, checker: &mut Checker) -> Vec<Table> {
        let mut services = Vec::new();
        for (key, value) in in_order(all) {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            let is_name = parse_name(name);
            if let Err(reason) = is_name {
                self.say(at, format!("{}: {reason}", quoted(name)));
            }
            let DeValue::Table(table) = value.get_ref() else {
                let is = kind(value.get_ref());
                let text = format!(
                    "services.{name} is {is}, and a table is wanted; write [services.NAME]"
                );
                self.say(at, text);
                continue;
            };
            let settings = self.settings(table, SERVICES, checker);
            if is_name.is_ok() {
                let name = name.to_owned();
                services.push(Table { name, at, settings });
            }
        }
        services
    }

    /// Reads the keys of one service, or of `[defaults]`.
    fn settings(&mut self, table: &DeTable<'_>, of: &str, checker: &mut Checker) -> Settings {
        let mut settings = Settings::new();
        for (key, value) in in_order(table) {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            let Some(found) = self.service.find(name) else {
                let text = self.unknown_in_service(name, of);
                self.say(at, text);
                continue;
            };
            let (base, mistakes) = (&self.base, &mut self.mistakes);
            let setting = values::read(found, at, value, base, checker, mistakes);
            settings.insert(name.to_owned(), setting);
        }
        settings
    }

    fn unknown_at_top(&self, name: &str, value: &DeValue<'_>) -> String {
        if let DeValue::Table(_) = value {
            let tables = [DEFAULTS, SERVICES];
            return match nearest(name, tables) {
                Some(SERVICES) => {
                    format!("unknown table {}; write [services.NAME]", quoted(name))
                }
                Some(table) => format!("unknown table {}; write [{table}]", quoted(name)),
                None => format!(
                    "unknown table {}; a service is a table [services.NAME], and the keys of all \
                     services are in [{DEFAULTS}]",
                    quoted(name)
                ),
            };
        }
        if self.service.find(name).is_some() {
            return format!(
                "{name} is a key of a service; write it below [services.NAME], or below \
                 [{DEFAULTS}] for all"
            );
        }
        let process = self.process.iter().map(|key| key.name());
        unknown(name, nearest(name, process.chain([DEFAULTS, SERVICES])))
    }

    fn unknown_in_service(&self, name: &str, of: &str) -> String {
        if name == "name" {
            return "name is no key: the name of a service is that of its table; write \
                    [services.NAME]"
                .to_owned();
        }
        if self.process.find(name).is_some() {
            return format!(
                "{name} is a key of the process; write it at the top of the file, before the \
                 first [table]"
            );
        }
        if of == DEFAULTS && name == SERVICES {
            return "a service is no default; write [services.NAME]".to_owned();
        }
        unknown(
            name,
            nearest(name, self.service.iter().map(|key| key.name())),
        )
    }
}

fn unknown(name: &str, nearest: Option<&str>) -> String {
    let name = quoted(name);
    match nearest {
        Some(nearest) => format!("unknown key {name}; write {nearest}"),
        None => format!("unknown key {name}; `sockserve check --schema` has all keys"),
    }
}

/// Returns the known word that is most like this one, if any is.
fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('_', "-");
    let likeness = |known: &str| strsim::jaro_winkler(&word, known);
    let all = known.into_iter().map(|known| (known, likeness(known)));
    let alike = all.filter(|(_, likeness)| *likeness >= ALIKE);
    let best = alike.max_by(|(_, one), (_, other)| one.total_cmp(other));
    best.map(|(known, _)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let known = ["max-connections", "max-memory", "listen", "linger"];
        for (word, found) in [
            ("max_connections", Some("max-connections")),
            ("max-conections", Some("max-connections")),
            ("maxmemory", Some("max-memory")),
            ("Listen", Some("listen")),
            ("lingr", Some("linger")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), found, "{word}");
        }
    }
}
