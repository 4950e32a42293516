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
        Ok(Written::File) => {
            let mut stdout = output::stdout();
            writeln!(stdout, "{path}  {} bytes", command.len())?;
            stdout.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        // Standard output may be that.
        Ok(Written::Elsewhere) => Ok(ExitCode::SUCCESS),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::usage(anyhow!(
            "{path} exists; write another file, or replace it with --force"
        ))),
        Err(error) => Err(error).with_context(|| format!("cannot write {path}"))?,
    }
}

/// What was written to.
enum Written {
    /// A file, which was made or replaced.
    File,
    /// A pipe or a device, which is there already and stays.
    Elsewhere,
}

/// Writes the whole file, or nothing.
fn write(path: &Path, bytes: &[u8], replace: bool) -> io::Result<Written> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if !found.is_file() => {
            let mut there = fs::File::options().write(true).open(path)?;
            there.write_all(bytes)?;
            there.flush()?;
            Ok(Written::Elsewhere)
        }
        // A link stays one, and leads to the new file.
        Ok(_) if replace => replace_file(&fs::canonicalize(path)?, bytes),
        _ => {
            let mut file = fs::File::create_new(path)?;
            file.write_all(bytes).inspect_err(|_| {
                let _ = fs::remove_file(path);
            })?;
            Ok(Written::File)
        }
    }
}

/// Whoever reads the old file meanwhile has the whole of it.
fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<Written> {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let mut file = fs::File::create_new(&part)?;
    let written = file
        .write_all(bytes)
        .and_then(|()| fs::set_permissions(&part, fs::metadata(path)?.permissions()))
        .and_then(|()| fs::rename(&part, path));
    written.inspect_err(|_| {
        let _ = fs::remove_file(&part);
    })?;
    Ok(Written::File)
}
