//! What the clients measured: the progress while they run, and a table at the end.

use crate::cli::output::{self, complain};
use crate::sync::lock;
use crate::{LocalAddress, Service};
use std::convert::Infallible;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

/// The time between two updates of the progress.
const INTERVAL: Duration = Duration::from_millis(100);

/// Collects the measurements of one service's clients.
pub(super) struct Meter {
    title: String,
    measured: Mutex<Measured>,
}

#[derive(Default)]
struct Measured {
    connections: usize,
    times: Vec<Duration>,
    wrong_bytes: usize,
}

impl Meter {
    pub(super) fn new(title: String) -> Self {
        Self {
            title,
            measured: Mutex::default(),
        }
    }

    /// Calls `change` with the measurements.
    fn with<R>(&self, change: impl FnOnce(&mut Measured) -> R) -> R {
        change(&mut lock(&self.measured))
    }

    pub(super) fn count_connection(&self) {
        self.with(|measured| measured.connections += 1);
    }

    pub(super) fn add_round_trip(&self, time: Duration) {
        self.with(|measured| measured.times.push(time));
    }

    pub(super) fn count_wrong_bytes(&self, count: usize) {
        self.with(|measured| measured.wrong_bytes += count);
    }

    /// Writes the progress until the future is dropped: again and again on a
    /// terminal, once elsewhere.
    pub(super) async fn show_progress(&self) -> Infallible {
        let mut stderr = std::io::stderr();
        if !output::stderr_is_terminal() {
            let _ = writeln!(stderr, "{} …", self.title);
            return std::future::pending().await;
        }
        loop {
            let (connections, round_trips) =
                self.with(|measured| (measured.connections, measured.times.len()));
            let _ = write!(
                stderr,
                "\r\x1b[K{}: {connections} connections, {round_trips} round trips",
                self.title
            );
            tokio::time::sleep(INTERVAL).await;
        }
    }

    pub(super) fn clear_progress(&self) {
        let mut stderr = std::io::stderr();
        if output::stderr_is_terminal() {
            let _ = write!(stderr, "\r\x1b[K");
        }
    }
}

/// One line of the table.
pub(super) struct Row {
    cells: [String; 9],
    wrong_bytes: usize,
    error: Option<anyhow::Error>,
}

const HEADINGS: [&str; 9] = [
    "service",
    "contract",
    "dispatch",
    "transport",
    "connections",
    "round trips",
    "p50",
    "p99",
    "wrong bytes",
];

impl Row {
    pub(super) fn new(service: &Service, meter: &Meter, result: anyhow::Result<()>) -> Self {
        meter.with(|measured| {
            measured.times.sort_unstable();
            // A client that leaves a chat does not read the messages that still
            // arrive, and so resets its connection.
            let failures = service.handle().status().failed;
            let failed = failures.total() - failures.peer;
            let error = match result {
                Err(error) => Some(error),
                Ok(()) if failed > 0 => Some(anyhow::anyhow!("{failed} connections failed")),
                Ok(()) => None,
            };
            let addresses = service.local_addresses();
            let transport = addresses.first().map(LocalAddress::transport);
            Self {
                cells: [
                    service.name().to_owned(),
                    service.contract().to_string(),
                    service.dispatch().to_string(),
                    transport.map(|it| it.to_string()).unwrap_or_default(),
                    measured.connections.to_string(),
                    measured.times.len().to_string(),
                    milliseconds(percentile(&measured.times, 50)),
                    milliseconds(percentile(&measured.times, 99)),
                    measured.wrong_bytes.to_string(),
                ],
                wrong_bytes: measured.wrong_bytes,
                error,
            }
        })
    }

    pub(super) fn is_wrong(&self) -> bool {
        self.wrong_bytes > 0 || self.error.is_some()
    }
}

/// Prints the table on standard output, and the errors on standard error.
pub(super) fn print(rows: &[Row]) -> std::io::Result<()> {
    let widths: Vec<usize> = HEADINGS
        .iter()
        .enumerate()
        .map(|(column, heading)| {
            rows.iter()
                .filter_map(|row| row.cells.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(heading.len())
        })
        .collect();
    let mut stdout = output::stdout();
    let mut write = |cells: [&str; 9]| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
            // Words are aligned left, numbers right.
            if column < 4 {
                line.extend([*cell, &padding, "  "]);
            } else {
                line.extend([&padding, *cell, "  "]);
            }
        }
        writeln!(stdout, "{}", line.trim_end())
    };
    write(HEADINGS)?;
    for row in rows {
        write(row.cells.each_ref().map(String::as_str))?;
    }
    for row in rows {
        if let Some(error) = &row.error {
            let [service, contract, dispatch, ..] = &row.cells;
            complain(&format!("{service} {contract} {dispatch}: {error:#}"));
        }
    }
    Ok(())
}

/// Returns the smallest value of `sorted` that at least `percent` percent of the
/// values do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let times: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }

    #[test]
    fn times_are_written_in_milliseconds() {
        assert_eq!(milliseconds(Duration::from_micros(1234)), "1.23 ms");
    }
}
