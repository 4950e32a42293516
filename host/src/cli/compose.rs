//! `sockserve compose`: a handler as a command that listens by itself.

use super::{Failure, output};
use crate::component::builtin;
use crate::{ComposeError, compose, text};
use anyhow::{Context as _, anyhow};
use clap::Args;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// A component file, or builtin:NAME
    handler: OsString,
    /// Where to write the command
    #[arg(short, long, value_name = "COMMAND.wasm")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let source = text::path(options.handler.as_ref());
    let handler = builtin::load_argument(&options.handler)?;
    let command = compose(&source, &handler).map_err(|error| match error {
        ComposeError::Command(_) | ComposeError::Composed(_) => Failure::usage(error),
        error => error.into(),
    })?;
    let path = text::path(&options.output);
    match write(&options.output, &command, options.force) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Failure::usage(anyhow!(
                "{path} exists; write another file, or replace it with --force"
            )));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {path}"))?,
    }
    let mut stdout = output::stdout();
    writeln!(stdout, "{path}  {} bytes", command.len())?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the whole file, or nothing.
fn write(path: &Path, bytes: &[u8], replace: bool) -> io::Result<()> {
    if replace {
        // Whoever reads the old file meanwhile has the whole of it.
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let written = fs::write(&part, bytes).and_then(|()| fs::rename(&part, path));
        return written.inspect_err(|_| {
            let _ = fs::remove_file(&part);
        });
    }
    let mut file = fs::File::create_new(path)?;
    file.write_all(bytes).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}
