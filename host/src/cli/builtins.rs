//! `sockserve builtins`: the embedded components.

use super::Failure;
use crate::builtin;
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
    let mut stdout = std::io::stdout().lock();
    if let Some(directory) = &options.write {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
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
                    .with_context(|| format!("cannot write {}", path.display()))?;
                writeln!(stdout, "{}", path.display())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
