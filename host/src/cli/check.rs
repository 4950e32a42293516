//! `sockserve check`: what is wrong with a configuration file, without serving it.
//!
//! Everything is tried but for what another process would notice: no address is bound, and
//! no file is written but in a `cache`.

use super::config::difference::{Arguments, Difference, arguments};
use super::config::{self, Configuration, Described, Fault, Mistake, Mistakes};
use super::serve::{self, Loaded};
use super::{Failure, output};
use crate::control::client::{Question, ask};
use crate::guest::stdio::{Partner, Scope};
use crate::text;
use anyhow::Context as _;
use clap::Args;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::runtime::Runtime;

#[derive(Args)]
pub(super) struct Options {
    /// The configuration file
    #[arg(required_unless_present = "schema")]
    file: Option<PathBuf>,
    /// Print the JSON schema of configuration files
    #[arg(long, conflicts_with = "file")]
    schema: bool,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let Some(path) = &options.file else {
        return print_schema();
    };
    let (configuration, mut mistakes) = config::read_all(path).map_err(Failure::Mistakes)?;
    let lines = try_all(&configuration, &mut mistakes)?;
    mistakes.extend(without_directory(&configuration));
    if let Some(mistakes) = Mistakes::new(&configuration.source, mistakes) {
        return Err(Failure::Mistakes(mistakes));
    }
    let mut stdout = output::stdout();
    for line in lines.into_iter().chain(reload_would(&configuration)) {
        writeln!(stdout, "{line}").context("cannot print")?;
    }
    stdout.flush().context("cannot print")?;
    Ok(ExitCode::SUCCESS)
}

/// Compiles and instantiates the handler of every service. Returns a line for each that
/// would start.
fn try_all(
    configuration: &Configuration,
    mistakes: &mut Vec<Mistake>,
) -> Result<Vec<String>, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().context("cannot start")?;
    let mut lines = Vec::new();
    for service in &configuration.services {
        match try_one(service, &runtime) {
            Ok(line) => lines.push(line),
            Err(failure) => mistakes.push(service.mistake(&failure)),
        }
    }
    Ok(lines)
}

/// The files of the process that have no directory to be made in.
fn without_directory(configuration: &Configuration) -> impl Iterator<Item = Mistake> {
    let files = configuration.files().into_iter();
    files.filter_map(|(key, path)| {
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty())?;
        let why = match std::fs::metadata(directory) {
            Ok(found) if found.is_dir() => return None,
            Ok(_) => "no directory".to_owned(),
            Err(error) => error.to_string(),
        };
        Some(Mistake {
            at: None,
            text: format!(
                "{key}: {}: {why}; make the directory, or choose another one",
                text::path(directory)
            ),
            fault: Fault::System,
        })
    })
}

fn try_one(service: &Described, runtime: &Runtime) -> Result<String, Failure> {
    let Loaded {
        options, handler, ..
    } = serve::load(&service.keys)?;
    options.check(&handler).map_err(serve::start_failure)?;
    let scope = Scope {
        service: service.name.as_str().into(),
        memory: Arc::default(),
        partner: Partner::default(),
    };
    let tried = runtime.block_on(handler.try_instantiate(scope));
    tried.map_err(|error| serve::start_failure(error.into()))?;
    let listen: Vec<_> = options.listen.iter().map(ToString::to_string).collect();
    Ok(format!(
        "right service={} contract={} dispatch={} listen={}",
        service.name,
        handler.contract(),
        handler.dispatch(),
        listen.join(",")
    ))
}

/// What a reload would change, if a process with this configuration's control socket
/// serves.
fn reload_would(configuration: &Configuration) -> Vec<String> {
    let Some(control) = configuration.control() else {
        return Vec::new();
    };
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let Ok(runtime) = builder.enable_all().build() else {
        return Vec::new();
    };
    // Nobody may serve, or a process without a file: then there is nothing to compare with.
    let Ok(present) = runtime.block_on(ask(&control, Question::configuration())) else {
        return Vec::new();
    };
    let present: BTreeMap<String, Arguments> = present;
    let after = arguments(&configuration.services);
    let lines = Difference::new(&present, &after).lines().into_iter();
    lines.map(|line| format!("a reload: {line}")).collect()
}

fn print_schema() -> Result<ExitCode, Failure> {
    let schema = serde_json::to_string_pretty(&config::schema::schema());
    let schema = schema.context("cannot write the schema")?;
    let mut stdout = output::stdout();
    writeln!(stdout, "{schema}").context("cannot print")?;
    stdout.flush().context("cannot print")?;
    Ok(ExitCode::SUCCESS)
}
