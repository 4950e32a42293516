//! `sockserve completions`: scripts for shells, made from the options themselves.

use super::{Failure, output};
use clap::{Args, Command, ValueEnum};
use clap_complete::{Shell, generate};
use std::io::Write as _;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// The shell
    #[arg(value_enum)]
    shell: Known,
}

/// The shells whose scripts the tests run or read.
#[derive(Clone, Copy, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

/// `command` is the whole command, with its subcommands.
pub(super) fn run(options: &Options, mut command: Command) -> Result<ExitCode, Failure> {
    let shell = match options.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let name = command.get_name().to_owned();
    // `generate` panics if it cannot write; a buffer can always be written.
    let mut script = Vec::new();
    generate(shell, &mut command, name, &mut script);
    let mut stdout = output::stdout();
    stdout.write_all(&script)?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}
