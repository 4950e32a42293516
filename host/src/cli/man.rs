//! `sockserve man`: the manual, made from the options themselves.

use super::{Failure, output};
use crate::text;
use anyhow::Context as _;
use clap::{Args, Command};
use clap_mangen::Man;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// Where to write all pages
    #[arg(value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

/// `command` is the whole command, with its subcommands.
pub(super) fn run(options: &Options, command: Command) -> Result<ExitCode, Failure> {
    // The pages name each other; a page for `help` would only say that there is `--help`.
    let mut command = command.disable_help_subcommand(true);
    // Passes the global options on, and gives each subcommand its whole name.
    command.build();
    let mut stdout = output::stdout();
    let Some(directory) = &options.directory else {
        stdout.write_all(&page(&command)?.1)?;
        stdout.flush()?;
        return Ok(ExitCode::SUCCESS);
    };
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make the directory {}", text::path(directory)))?;
    for command in std::iter::once(&command).chain(command.get_subcommands()) {
        let (name, bytes) = page(command)?;
        let path = directory.join(name);
        std::fs::write(&path, bytes)
            .with_context(|| format!("cannot write {}", text::path(&path)))?;
        writeln!(stdout, "{}", text::path(&path))?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the file's name and the text of a command's page.
fn page(command: &Command) -> io::Result<(String, Vec<u8>)> {
    // A subcommand has no version of its own.
    let source = concat!("sockserve ", env!("CARGO_PKG_VERSION"));
    let page = Man::new(command.clone()).source(source).manual("sockserve");
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok((page.get_filename(), text))
}
