//! The log: one line an event, on standard error.

use clap::{Args, ValueEnum};
use std::io::IsTerminal as _;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::fmt;

#[derive(Args)]
pub(super) struct Options {
    /// What to log: off, error, warn, info, debug or trace. `debug` has a line
    /// for each connection opened and closed [default: info; demo: warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<LevelFilter>,
    /// How to write it
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

impl Options {
    /// Starts logging. What is still to be written is, when the guard goes.
    ///
    /// A thread of its own writes, and lines that it cannot get rid of are lost:
    /// a reader that is slow or gone must not hold up a service.
    pub(super) fn start(&self, default: LevelFilter) -> WorkerGuard {
        let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
        let builder = fmt()
            .with_max_level(self.log_level.unwrap_or(default))
            .with_writer(writer)
            .log_internal_errors(false)
            .with_ansi(std::io::stderr().is_terminal());
        match self.log_format {
            Format::Text => builder.init(),
            Format::Json => builder.json().flatten_event(true).init(),
        }
        guard
    }
}
