//! `sockserve builtins`: the embedded components.

use super::{Failure, output};
use crate::component::builtin;
use crate::text;
use anyhow::Context as _;
use clap::Args;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// Write them to a directory, as NAME.wasm
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let mut stdout = output::stdout();
    if let Some(directory) = &options.write {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", text::path(directory)))?;
    }
    for builtin in builtin::all() {
        match &options.write {
            None => writeln!(
                stdout,
                "{}{:<16} {:>7} bytes",
                builtin::PREFIX,
                builtin.name,
                builtin.bytes.len()
            )?,
            Some(directory) => {
                let path = directory.join(format!("{}.wasm", builtin.name));
                std::fs::write(&path, builtin.bytes)
                    .with_context(|| format!("cannot write {}", text::path(&path)))?;
                writeln!(stdout, "{}", text::path(&path))?;
            }
        }
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}
