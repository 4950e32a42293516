//! `sockserve wit`: the contracts as files.

use super::new::files;
use super::{Failure, output};
use crate::text;
use anyhow::{Context as _, anyhow};
use clap::Args;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Args)]
pub(super) struct Options {
    /// The folder to write them into
    dir: PathBuf,
    /// Write them also where there is something already
    #[arg(long)]
    force: bool,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let shown = text::path(&options.dir);
    let occupied =
        files::has_content(&options.dir).with_context(|| format!("cannot read {shown}"))?;
    if occupied && !options.force {
        return Err(Failure::usage(anyhow!(
            "{shown} is not empty; name a new folder, or write into this one with --force"
        )));
    }
    let mut stdout = output::stdout();
    for (name, bytes) in files::under("wit").filter(|(name, _)| name.ends_with(".wit")) {
        let path = options.dir.join(name);
        files::write(&path, bytes)?;
        writeln!(stdout, "{}", text::path(&path))?;
    }
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}
