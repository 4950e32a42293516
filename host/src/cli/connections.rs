//! `sockserve connections` and `kill`: the open connections of a running process.

use super::Failure;
use super::control::Target;
use crate::control::client::Question;
use crate::control::{ConnectionsReply, KillReply};
use crate::{ConnectionState, ConnectionStatus, KillRequest};
use clap::Args;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Args)]
pub(super) struct Options {
    /// The service whose connections to list; of all without it
    #[arg(value_parser = super::serve::parse_name)]
    service: Option<String>,
    #[command(flatten)]
    target: Target,
}

#[derive(Args)]
pub(super) struct KillOptions {
    /// The numbers of the connections, as `sockserve connections` and the log show them
    #[arg(value_name = "CONNECTION", required_unless_present_any = ["peer", "service"])]
    connections: Vec<u64>,
    /// Connections of these peers: an address, or a block as 192.0.2.0/24
    #[arg(long, value_name = "CIDR")]
    peer: Option<String>,
    /// Connections of this service
    #[arg(long, value_name = "NAME", value_parser = super::serve::parse_name)]
    service: Option<String>,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let question = Question::connections(options.service.as_deref());
    options
        .target
        .ask(question, |out, reply: &ConnectionsReply| {
            print(out, &reply.connections)
        })
}

pub(super) fn kill(options: &KillOptions) -> Result<ExitCode, Failure> {
    let request = KillRequest {
        connections: options.connections.clone(),
        peer: options.peer.clone(),
        service: options.service.clone(),
    };
    let question = Question::kill(&request)?;
    options.target.ask(question, |out, reply: &KillReply| {
        let numbers: Vec<_> = reply.killed.iter().map(ToString::to_string).collect();
        match numbers.as_slice() {
            [] => writeln!(out, "no connection fits"),
            [number] => writeln!(out, "killed 1 connection: {number}"),
            all => writeln!(out, "killed {} connections: {}", all.len(), all.join(" ")),
        }
    })
}

/// The columns of the list, the last one without an end.
pub(super) const COLUMNS: [&str; 10] = [
    "NUMBER", "SERVICE", "VERSION", "OPEN", "IDLE", "IN", "OUT", "UNSENT", "STATE", "PEER",
];

/// Prints a line per connection, in columns that are as wide as they need to be.
fn print(out: &mut dyn Write, connections: &[ConnectionStatus]) -> std::io::Result<()> {
    let rows: Vec<_> = connections.iter().map(row).collect();
    let head = COLUMNS.map(str::to_owned);
    let widths: Vec<_> = (0..COLUMNS.len())
        .map(|column| {
            let cells = std::iter::once(&head).chain(&rows);
            let widths = cells.filter_map(|row| row.get(column)).map(String::len);
            widths.max().unwrap_or(0)
        })
        .collect();
    for row in std::iter::once(&head).chain(&rows) {
        let cells = row.iter().zip(&widths);
        let line: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        writeln!(out, "{}", line.join("  ").trim_end())?;
    }
    Ok(())
}

/// What the columns of a connection are.
pub(super) fn row(connection: &ConnectionStatus) -> [String; COLUMNS.len()] {
    [
        connection.connection.to_string(),
        connection.service.clone(),
        connection
            .version
            .map_or("-".to_owned(), |version| version.to_string()),
        shown(connection.open_milliseconds),
        shown(connection.idle_milliseconds),
        connection.bytes_in.to_string(),
        connection.bytes_out.to_string(),
        connection.unsent.to_string(),
        match connection.state {
            ConnectionState::Serving => "serving",
            ConnectionState::Stalled => "stalled",
            ConnectionState::Closing => "closing",
        }
        .to_owned(),
        connection.peer.clone(),
    ]
}

/// A time as a column shows it: in tenths of a second below ten seconds, then in seconds,
/// minutes or hours, with two units at most.
fn shown(milliseconds: u64) -> String {
    match milliseconds {
        ..10_000 => format!("{}.{}s", milliseconds / 1000, milliseconds / 100 % 10),
        _ => {
            let whole = Duration::from_secs(milliseconds / 1000);
            let text = humantime::format_duration(whole).to_string();
            let units: Vec<_> = text.split(' ').take(2).collect();
            units.join("")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn times_are_short() {
        for (milliseconds, expected) in [
            (0, "0.0s"),
            (99, "0.0s"),
            (9_999, "9.9s"),
            (10_000, "10s"),
            (61_000, "1m1s"),
            (3_600_000 * 25 + 61_000, "1day1h"),
        ] {
            assert_eq!(shown(milliseconds), expected);
        }
    }
}
