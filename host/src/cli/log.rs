//! The log: one line per event, on standard error.

use super::output;
use crate::log_queue::{self, Flush, Owner, Queue};
use crate::text;
use clap::{Args, ValueEnum};
use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
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
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// One JSON object per line
    Json,
}

/// Which thread writes the lines.
pub(super) enum Writing {
    /// A thread of its own: a slow or absent reader must not delay a service. Lines
    /// that the reader does not take are lost.
    Thread,
    /// The thread that logs. For commands that serve no connections.
    Direct,
}

impl Options {
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
        let colours = output::stderr_has_colours();
        let json = matches!(self.log_format, Format::Json);
        let builder = tracing_subscriber::fmt()
            .with_max_level(self.log_level.unwrap_or(default))
            // The formatters below pass the lines on themselves.
            .with_writer(io::sink)
            .log_internal_errors(false);
        let format = format::format();
        // A program that calls this twice keeps its first log.
        let _ = match self.log_format {
            Format::Text => builder
                .event_format(Lines {
                    format: format.with_ansi(colours),
                    queue,
                    colours,
                    json,
                })
                .try_init(),
            Format::Json => builder
                .fmt_fields(JsonFields::new())
                .event_format(Lines {
                    format: format.json().flatten_event(true),
                    queue,
                    colours: false,
                    json,
                })
                .try_init(),
        };
        Ok(flush)
    }
}

/// Formats each event as one line, and passes the line to the queue or to standard
/// error.
struct Lines<F> {
    format: format::Format<F>,
    queue: Option<Arc<Queue>>,
    colours: bool,
    json: bool,
}

impl<F, S, N> FormatEvent<S, N> for Lines<F>
where
    format::Format<F>: FormatEvent<S, N>,
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
        let line = text::finish_line(&line, self.colours, self.json).into_owned();
        let Some(queue) = &self.queue else {
            let _ = io::stderr().write_all(line.as_bytes());
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
