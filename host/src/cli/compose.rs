//! `sockserve compose`: a handler as a command that listens by itself.

use super::{Failure, output_file};
use crate::component::builtin;
use crate::{ComposeError, compose, text};
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;
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
    output_file::write(&options.output, &command, options.force, "")
}
