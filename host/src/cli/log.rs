//! The log: one line per event, on standard error or in a file.
//!
//! If standard error is the journal's, a line begins with its priority (`<6>`), and has no
//! time and no level: the journal has both.

use super::output;
use crate::aside::aside;
use crate::log_queue::{self, Flush, Owner, Queue};
use crate::text;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{self, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

#[derive(Args)]
pub(super) struct Options {
    /// What to log: off, error, warn, info, debug or trace. `debug` has a line
    /// for each connection opened and closed [default: info; demo,
    /// check, compile and run: warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<LevelFilter>,
    /// How to write it
    #[arg(long, global = true, value_enum, default_value = "text")]
    log_format: Format,
    /// Append it to a file, which SIGUSR1 opens again; refusals are on standard error
    /// too
    #[arg(long, global = true, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

impl Options {
    /// The file that the log goes to.
    pub(super) fn file(&self) -> Option<&Path> {
        self.log_file.as_deref()
    }
}

/// Which thread writes the lines.
pub(super) enum Writing {
    /// A thread of its own: a slow or absent reader must not delay a service. Lines
    /// that the reader does not take are lost.
    Thread,
    /// The thread that logs. For commands that serve no connections.
    Direct,
}

/// Opens the log's file again, at SIGUSR1. If it does not open, the log goes on in the
/// file that is open.
pub(super) async fn open_again() {
    let Some(path) = log_queue::file_path() else {
        tracing::info!("SIGUSR1 opens the log's file again, and there is no --log-file");
        return;
    };
    // A file system may not answer, and this thread has other signals to wait for.
    let opened = aside("log", log_queue::open_file_again).await;
    match opened.and_then(|opened| opened) {
        Ok(()) => tracing::info!("the log's file was opened again"),
        Err(error) => tracing::warn!(
            "cannot open the log {} again: {error}; it goes on in the file that is open",
            text::path(path)
        ),
    }
}

impl Options {
    /// Opens the log's file, if one was asked for.
    pub(super) fn open(&self) -> anyhow::Result<()> {
        let Some(path) = &self.log_file else {
            return Ok(());
        };
        log_queue::use_file(path)
            .with_context(|| format!("cannot open the log {}", text::path(path)))
    }

    /// Starts the log. When the returned value is dropped, the waiting lines are
    /// written (see [`Flush`]).
    pub(super) fn start(
        &self,
        default: LevelFilter,
        writing: &Writing,
    ) -> io::Result<Option<Flush>> {
        let (queue, flush) = match writing {
            Writing::Thread => {
                log_queue::start().map(|(queue, flush)| (Some(queue), Some(flush)))?
            }
            Writing::Direct => (None, None),
        };
        let to_stderr = self.log_file.is_none();
        let colours = to_stderr && output::stderr_has_colours();
        let journal = to_stderr && output::journal_reads_stderr();
        let json = matches!(self.log_format, Format::Json);
        let builder = tracing_subscriber::fmt()
            .with_max_level(self.log_level.unwrap_or(default))
            // The formatters below pass the lines on themselves.
            .with_writer(io::sink)
            .log_internal_errors(false);
        let format = format::format();
        // A program that calls this twice keeps its first log.
        let _ = match self.log_format {
            Format::Text if journal => builder
                .event_format(Lines {
                    format: format.with_ansi(false).without_time().with_level(false),
                    queue,
                    colours: false,
                    json,
                    journal,
                })
                .try_init(),
            Format::Text => builder
                .event_format(Lines {
                    format: format.with_ansi(colours),
                    queue,
                    colours,
                    json,
                    journal,
                })
                .try_init(),
            Format::Json => builder
                .fmt_fields(JsonFields::new())
                .event_format(Lines {
                    format: format.json().flatten_event(true),
                    queue,
                    colours: false,
                    json,
                    journal,
                })
                .try_init(),
        };
        Ok(flush)
    }
}

/// Formats each event as one line, and passes the line to the queue or writes it.
struct Lines<F, T> {
    format: format::Format<F, T>,
    queue: Option<Arc<Queue>>,
    colours: bool,
    json: bool,
    /// Whether each line begins with its priority.
    journal: bool,
}

/// Returns the prefix by which systemd's journal knows a line's priority (sd-daemon(3)).
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

impl<F, T, S, N> FormatEvent<S, N> for Lines<F, T>
where
    format::Format<F, T>: FormatEvent<S, N>,
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        _: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.format
            .format_event(context, Writer::new(&mut line), event)?;
        // Escapes what others wrote, so that it is one line.
        let mut line = text::finish_line(&line, self.colours, self.json).into_owned();
        if self.journal {
            line.insert_str(0, priority(*event.metadata().level()));
        }
        let Some(queue) = &self.queue else {
            let _ = log_queue::write(line.as_bytes());
            return Ok(());
        };
        let mut service = Service::default();
        let target = event.metadata().target();
        if target != log_queue::TARGET {
            event.record(&mut service);
        }
        let owner = match &service.0 {
            Some(service) if target == "guest" => Owner::Guest(service),
            Some(service) => Owner::Service(service),
            None => Owner::Host,
        };
        queue.push(owner, line);
        Ok(())
    }
}

/// The service that an event is about.
#[derive(Default)]
struct Service(Option<String>);

impl Visit for Service {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "service" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "service" {
            let mut name = String::new();
            let _ = write!(name, "{value:?}");
            self.0 = Some(name);
        }
    }
}
