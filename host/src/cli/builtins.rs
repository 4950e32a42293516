//! `sockserve builtins`: the embedded components.

use super::{Failure, output};
use crate::component::builtin::{self, Builtin};
use crate::text;
use anyhow::Context as _;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// Write them to a directory, as NAME.wasm
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

/// The list, as `--json` prints it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct List {
    /// Sorted by name.
    builtins: Vec<Entry>,
}

/// An embedded component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Entry {
    /// `builtin:NAME`, as commands take it.
    name: String,
    size_bytes: u64,
    /// The file that it was written to, on one line. `None` without `--write`.
    path: Option<String>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let mut stdout = output::stdout();
    if let Some(directory) = &options.write {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", text::path(directory)))?;
    }
    let mut list = List::default();
    for builtin in builtin::all() {
        let entry = Entry {
            name: format!("{}{}", builtin::PREFIX, builtin.name),
            size_bytes: builtin.bytes.len() as u64,
            path: match &options.write {
                Some(directory) => Some(write(&builtin, directory)?),
                None => None,
            },
        };
        if !options.json {
            let Entry {
                name, size_bytes, ..
            } = &entry;
            match &entry.path {
                None => writeln!(stdout, "{name:<24} {size_bytes:>7} bytes")?,
                Some(path) => writeln!(stdout, "{path}")?,
            }
        }
        list.builtins.push(entry);
    }
    if options.json {
        writeln!(stdout, "{}", serde_json::to_string(&list)?)?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a component to a directory. Returns the file's path.
fn write(builtin: &Builtin, directory: &Path) -> Result<String, Failure> {
    let path = directory.join(format!("{}.wasm", builtin.name));
    std::fs::write(&path, builtin.bytes)
        .with_context(|| format!("cannot write {}", text::path(&path)))?;
    Ok(text::path(&path).into_owned())
}
