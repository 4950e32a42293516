//! A project's file: what `sockserve new` knows of the project, for `sockserve dev`.

use crate::ListenAddress;
use crate::text;
use anyhow::{Context as _, anyhow};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;

/// Where it is in the project's folder.
pub(in crate::cli) const PATH: &str = ".sockserve/project.json";

/// What the arguments of `dev` need not say. A key that is not there has to be an argument.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProjectFile {
    /// The command that builds the component, for `sh -c`.
    pub(super) build: Option<String>,
    /// The component file that the build makes.
    pub(super) component: Option<String>,
    /// Where to listen.
    #[serde(default, deserialize_with = "address")]
    pub(super) listen: Option<ListenAddress>,
}

fn address<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<ListenAddress>, D::Error> {
    let url = String::deserialize(from)?;
    url.parse().map(Some).map_err(serde::de::Error::custom)
}

impl ProjectFile {
    /// Reads the file of the current folder. `None` if there is none.
    pub(super) fn read() -> anyhow::Result<Option<Self>> {
        // A pipe would be waited for.
        let is_other = fs::metadata(PATH).is_ok_and(|found| !found.is_file());
        if is_other {
            return Err(anyhow!("{PATH} is no regular file; write one in its place"));
        }
        let json = match fs::read(PATH) {
            Ok(json) => json,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(format!("cannot read {PATH}")),
        };
        Self::parse(&json).map(Some)
    }

    fn parse(json: &[u8]) -> anyhow::Result<Self> {
        serde_json::from_slice(json).map_err(|error| {
            anyhow!(
                "{PATH}: {}; it has the keys build, component and listen, each with a text",
                text::one_line(&error.to_string())
            )
        })
    }
}

/// The text of the file of a new project.
pub(in crate::cli) fn text(build: &str, component: &str, listen: &str) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct New<'a> {
        build: &'a str,
        component: &'a str,
        listen: &'a str,
    }
    let new = New {
        build,
        component,
        listen,
    };
    Ok(serde_json::to_string_pretty(&new)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_new_writes_is_what_dev_reads() {
        let json = text("make \"it\"", "app.wasm", "udp://127.0.0.1:7000").unwrap();
        let file = ProjectFile::parse(json.as_bytes()).unwrap();
        assert_eq!(file.build.as_deref(), Some("make \"it\""));
        assert_eq!(file.component.as_deref(), Some("app.wasm"));
        assert_eq!(file.listen.unwrap().to_string(), "udp://127.0.0.1:7000");
    }

    #[test]
    fn keys_may_be_missing_and_not_unknown() {
        assert_eq!(ProjectFile::parse(b"{}").unwrap(), ProjectFile::default());
        for (json, expected) in [
            (r#"{"biuld": "x"}"#, "`biuld`"),
            (r#"{"listen": "nowhere"}"#, "nowhere"),
            (r#"{"listen": 7000}"#, "7000"),
            ("", "EOF"),
            ("[", "EOF"),
        ] {
            let error = ProjectFile::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(PATH), "{error}");
            assert!(error.contains(expected), "{error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
