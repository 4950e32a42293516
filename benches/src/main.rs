//! How fast `sockserve` is, beside native servers and others. `docs/performance.md` says
//! what is measured and what the columns mean.
//!
//! - [`work`]: what servers are given to do, and the targets.
//! - [`servers`]: which servers there are, and how they are started.
//! - [`native`]: the native ones, as which this program starts itself.
//! - [`client`]: what asks the servers, and checks every byte of the answers.
//! - [`measure`]: one measurement, and what the system says of a process.
//! - [`report`]: medians, ratios, the table and the JSON.
//! - [`plots`]: SVG from the JSON.

mod bench;
mod client;
mod measure;
mod native;
mod options;
mod plots;
mod report;
mod servers;
mod system;
mod work;

use anyhow::Result;
use clap::Parser as _;
use options::Options;
use report::Report;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<ExitCode> {
    if let Some(native) = options.native_server {
        native::serve(native, options.native_path)?;
    } else if options.list {
        bench::say(&bench::list())?;
    } else if let Some(path) = &options.from {
        bench::show(&Report::read(path)?, &options)?;
    } else {
        let works = match bench::works(&options) {
            Ok(works) => works,
            Err(error) => {
                eprintln!("error: {error}");
                return Ok(ExitCode::from(2));
            }
        };
        if !bench::run(&options, &works)? {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
