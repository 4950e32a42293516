//! `sockserve compile`: a component with its compiled code in its file.

use super::progress::Progress;
use super::serve::parse_memory;
use super::{Failure, output_file};
use crate::component::builtin;
use crate::{Dispatch, HandlerError, HandlerOptions, Limits, precompile, text};
use bytesize::ByteSize;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// A component file, or builtin:NAME
    component: OsString,
    /// Where to write it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// As it will be served [default: threaded for `blocking` and `command`, else poll]
    #[arg(long)]
    dispatch: Option<Dispatch>,
    /// As it will be served
    #[arg(long, value_name = "SIZE", value_parser = parse_memory, default_value = "64MiB")]
    max_memory: ByteSize,
    /// As it will be served
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000), default_value_t = Limits::default().max_connections)]
    max_connections: u32,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let source = text::path(options.component.as_ref());
    let progress = Progress::show(format!("preparing {source}"));
    let component = builtin::load_argument(&options.component)?;
    let contract = component.contract();
    let dispatch = options.dispatch.unwrap_or(contract.default_dispatch());
    let mut handler = HandlerOptions::new(dispatch);
    handler.limits = Limits {
        max_connections: options.max_connections,
        max_memory_bytes: options.max_memory.as_u64(),
        ..Limits::default()
    };
    let precompiled = precompile(&source, &component, &handler);
    drop(progress);
    let precompiled = precompiled.map_err(|error| match error {
        HandlerError::Incompatible(_) => Failure::usage(error),
        error => error.into(),
    })?;
    let code = ByteSize(precompiled.code_bytes as u64);
    let saves = precompiled.took;
    let what = format!(", {code} of them code that saves {saves:.1?} at a start");
    output_file::write(&options.output, &precompiled.file, options.force, &what)
}
