//! What a configuration changes of another, by service and key.

use super::Described;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The keys of a service as the arguments that they stand for.
pub(in crate::cli) type Arguments = BTreeMap<String, Vec<String>>;

/// What a reload changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) struct Difference {
    /// Services that are new.
    pub(in crate::cli) added: Vec<String>,
    /// Services that are gone.
    pub(in crate::cli) removed: Vec<String>,
    /// Services with other keys than before.
    pub(in crate::cli) changed: Vec<Changed>,
    /// Services with the same keys.
    pub(in crate::cli) unchanged: Vec<String>,
}

/// A service with other keys than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) struct Changed {
    pub(in crate::cli) service: String,
    /// The keys that are others, new, or gone.
    pub(in crate::cli) keys: Vec<String>,
}

/// What it takes to change a key of a service that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Takes {
    /// Nothing but another value.
    Setting,
    /// Other listeners, beside those that stay.
    Listeners,
    /// Another version, to which connections are handed over.
    Version,
    /// Another process.
    Restart,
}

/// The keys that take nothing but another value.
const SETTINGS: [&str; 25] = [
    "linger",
    "drain-timeout",
    "first-byte-timeout",
    "idle-timeout",
    "write-timeout",
    "connection-timeout",
    "access-log",
    "rollback-percent",
    "rollback-least",
    "rollback-window",
    "rollback-on",
    "max-connections-per-source",
    "source-prefix",
    "connections-per-second",
    "burst",
    "pause",
    "connections-per-second-per-source",
    "burst-per-source",
    "allow",
    "deny",
    "access-times",
    "max-load",
    "banner",
    "on-refuse",
    "watch",
];

/// The keys that take another process.
const RESTART: [&str; 11] = [
    "workers",
    "loops",
    "backlog",
    "reuse-port",
    "unix-mode",
    "unix-group",
    "allow-loops",
    "state-file",
    "once",
    "exit-after",
    "exit-idle",
];

impl Takes {
    /// What it takes to change `key`. What is not listed is the handler's.
    pub(in crate::cli) fn of(key: &str) -> Self {
        if key == "listen" {
            Self::Listeners
        } else if SETTINGS.contains(&key) {
            Self::Setting
        } else if RESTART.contains(&key) {
            Self::Restart
        } else {
            Self::Version
        }
    }
}

impl Difference {
    /// Compares the services of two configurations.
    pub(in crate::cli) fn new(
        before: &BTreeMap<String, Arguments>,
        after: &BTreeMap<String, Arguments>,
    ) -> Self {
        let mut difference = Self {
            removed: before
                .keys()
                .filter(|name| !after.contains_key(*name))
                .cloned()
                .collect(),
            ..Self::default()
        };
        for (name, arguments) in after {
            let Some(had) = before.get(name) else {
                difference.added.push(name.clone());
                continue;
            };
            let all = had.keys().chain(arguments.keys());
            let mut keys: Vec<_> = all
                .filter(|key| had.get(*key) != arguments.get(*key))
                .cloned()
                .collect();
            keys.sort();
            keys.dedup();
            if keys.is_empty() {
                difference.unchanged.push(name.clone());
            } else {
                let service = name.clone();
                difference.changed.push(Changed { service, keys });
            }
        }
        difference
    }

    /// Notes that a service changes though its keys do not: its component is another one under
    /// the same name, or a list of addresses in its file; or it was changed by hand.
    pub(in crate::cli) fn note_content(&mut self, name: &str, by_hand: bool) {
        let why = if by_hand {
            "what was changed by hand"
        } else {
            "the content of a file"
        };
        if let Some(at) = self.unchanged.iter().position(|it| it == name) {
            self.changed.push(Changed {
                service: self.unchanged.remove(at),
                keys: vec![why.to_owned()],
            });
        }
    }

    /// Says it, a line per service.
    pub(in crate::cli) fn lines(&self) -> Vec<String> {
        let added = self.added.iter().map(|name| format!("added {name}"));
        let removed = self.removed.iter().map(|name| format!("removed {name}"));
        let changed = self.changed.iter().map(|changed| {
            let Changed { service, keys } = changed;
            let (restart, changed): (Vec<_>, Vec<_>) = keys
                .iter()
                .map(String::as_str)
                .partition(|key| Takes::of(key) == Takes::Restart);
            if restart.is_empty() {
                format!("changed {service}: {}", changed.join(", "))
            } else {
                let keys = restart.join(", ");
                format!("refused, because another process is needed: {service}: {keys}")
            }
        });
        let unchanged = self
            .unchanged
            .iter()
            .map(|name| format!("unchanged {name}"));
        added
            .chain(changed)
            .chain(removed)
            .chain(unchanged)
            .collect()
    }
}

/// The arguments of services, by name.
pub(in crate::cli) fn arguments(services: &[Described]) -> BTreeMap<String, Arguments> {
    let all = services.iter().map(|service| {
        let arguments = service.arguments().into_iter().map(|(key, values)| {
            let values = values.iter().map(|it| it.to_string_lossy().into_owned());
            (key.to_owned(), values.collect())
        });
        (service.name.clone(), arguments.collect())
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::keys::Keys;
    use crate::cli::serve::ServiceKeys;

    fn services(text: &str) -> BTreeMap<String, Arguments> {
        let mut all = BTreeMap::new();
        for (name, key, value) in text.split_whitespace().map(|it| {
            let mut parts = it.split(':');
            let mut next = || parts.next().unwrap_or_default().to_owned();
            (next(), next(), next())
        }) {
            let arguments: &mut Arguments = all.entry(name).or_default();
            arguments.entry(key).or_default().push(value);
        }
        all
    }

    #[test]
    fn services_come_go_change_and_stay() {
        let before = services("a:listen:1 b:listen:2 b:env:x c:listen:3 d:listen:4");
        let after = services("b:listen:2 b:linger:1s c:listen:3 c:listen:5 d:listen:4 e:listen:6");
        let difference = Difference::new(&before, &after);
        assert_eq!(
            difference.lines(),
            [
                "added e",
                "changed b: env, linger",
                "changed c: listen",
                "removed a",
                "unchanged d"
            ]
        );
        assert_eq!(Difference::new(&after, &after).changed, []);
    }

    #[test]
    fn what_is_listed_is_a_key() {
        let keys = Keys::of::<ServiceKeys>();
        for key in SETTINGS.iter().chain(&RESTART) {
            assert!(keys.find(key).is_some(), "{key}");
        }
    }

    #[test]
    fn what_is_not_listed_is_the_handlers() {
        assert_eq!(Takes::of("env"), Takes::Version);
        assert_eq!(Takes::of("max-memory"), Takes::Version);
        assert_eq!(Takes::of("max-connections"), Takes::Version);
        assert_eq!(Takes::of("dispatch"), Takes::Version);
        assert_eq!(Takes::of("idle-timeout"), Takes::Setting);
        assert_eq!(Takes::of("state-file"), Takes::Restart);
    }
}
