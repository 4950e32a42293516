//! `sockserve componentize`: a core module of WASI preview 1 as a component.

use super::{Failure, output_file};
use crate::component::reading::{self, Named, ReadError};
use crate::{ComponentizeError, componentize, text};
use anyhow::anyhow;
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// A core module of WASI preview 1
    module: PathBuf,
    /// Where to write the component
    #[arg(short, long, value_name = "COMPONENT.wasm")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let name = text::path(&options.module);
    let module = reading::read_module(&options.module, Named::ByCommandLine)
        .map_err(|error| anyhow!("{name}: {}", unread(error)))?;
    let component = componentize(&name, &module).map_err(|error| match error {
        ComponentizeError::Component(_) => Failure::usage(error),
        error => error.into(),
    })?;
    let what = format!(", contract {}", component.contract());
    output_file::write(&options.output, component.bytes(), options.force, &what)
}

/// Why the module was not read. The errors of a component's read say what to name instead,
/// and that is another thing here.
fn unread(error: ReadError) -> String {
    let why = match error {
        ReadError::System(error) => error.to_string(),
        ReadError::Kind(kind) => format!("this is {kind}, and only a regular file is read"),
        ReadError::EmptyPipe => "an empty pipe that nobody writes into".to_owned(),
        error => return error.to_string(),
    };
    format!("{why}; name the module that the compiler has written")
}
