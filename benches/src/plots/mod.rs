//! Plots of how figures grow, made from a report.

mod chart;

use crate::report::{Finding, Report};
use anyhow::{Context as _, Result};
use chart::{Axis, Chart, Series};
use std::fs;
use std::path::Path;

/// The servers that are in the plots, if they were measured. More would not be told apart.
const SERVERS: [&str; 8] = [
    "native/tokio",
    "evented/poll",
    "blocking/threaded",
    "concurrent/poll",
    "concurrent/threaded",
    "python/asyncio",
    "wasmtime/wstd",
    "wasmtime/wasi-0.3",
];

/// The work that a plot's points come from: where the number is, and its work.
type Points = Vec<(f64, String)>;

/// Writes all plots for which a report has figures, into a directory.
pub(crate) fn write(report: &Report, directory: &Path) -> Result<Vec<&'static str>> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut written = Vec::new();
    for (name, chart) in charts(report) {
        if chart.series.iter().all(|series| series.points.len() < 2) {
            continue;
        }
        let path = directory.join(name);
        fs::write(&path, chart.svg())
            .with_context(|| format!("cannot write {}", path.display()))?;
        written.push(name);
    }
    Ok(written)
}

fn charts(report: &Report) -> [(&'static str, Chart); 3] {
    let microseconds = |finding: &Finding| Some(finding.cost.as_ref()?.total / 1e3);
    let connections = Chart {
        title: "Processor time per round trip of 64 B",
        x: Axis::logarithmic("connections"),
        y: Axis::logarithmic("µs of the server's processor time"),
        series: series(report, &numbered(report, "ping-pong/"), microseconds),
    };
    let mut points = numbered(report, "size/");
    points.push((64.0, "ping-pong/64".to_owned()));
    let sizes = Chart {
        title: "Processor time per round trip on 64 connections",
        x: Axis::logarithmic("bytes per message"),
        y: Axis::logarithmic("µs of the server's processor time"),
        series: series(report, &points, microseconds),
    };
    let mut points = numbered(report, "cores/");
    points.push((1.0, "ping-pong/64".to_owned()));
    let cores = Chart {
        title: "Round trips of 64 B on 64 connections",
        x: Axis::counted("cores of the server"),
        y: Axis::linear("thousand round trips per second"),
        series: series(report, &points, |finding| Some(finding.value? / 1e3)),
    };
    [
        ("connections.svg", connections),
        ("sizes.svg", sizes),
        ("cores.svg", cores),
    ]
}

/// The work whose names begin so and go on with a number.
fn numbered(report: &Report, begin: &str) -> Points {
    let mut points: Points = Vec::new();
    for finding in &report.results {
        let number = finding.work.strip_prefix(begin).map(str::parse);
        if let Some(Ok(number)) = number
            && !points.iter().any(|(_, work)| *work == finding.work)
        {
            points.push((number, finding.work.clone()));
        }
    }
    points
}

/// A line per server, through what was measured of it.
fn series(
    report: &Report,
    points: &Points,
    value: impl Fn(&Finding) -> Option<f64>,
) -> Vec<Series> {
    let of = |server: &str| {
        let mut line: Vec<_> = points
            .iter()
            .filter_map(|(x, work)| Some((*x, value(report.find(work, server)?)?)))
            .collect();
        line.sort_by(|one, other| one.0.total_cmp(&other.0));
        Series {
            name: server.to_owned(),
            points: line,
        }
    };
    let all = SERVERS.iter().map(|server| of(server));
    all.filter(|series| !series.points.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::{charts, write};
    use crate::report::{Finding, Machine, Report};

    fn report() -> Report {
        let finding = |work: &str, server: &str, value: f64, cost: f64| -> Finding {
            serde_json::from_value(serde_json::json!({
                "work": work, "server": server, "unit": "trips/s", "value": value,
                "cost": {"total": cost, "user": null, "system": null}, "samples": [],
            }))
            .unwrap()
        };
        let machine = Machine {
            processor: "p".to_owned(),
            kernel: "6".to_owned(),
            cores: 2,
            congestion_control: "cubic".to_owned(),
            clients_apart: true,
        };
        let mut report = Report::new(machine, 1, 1000);
        report.results = vec![
            finding("ping-pong/1000", "native/tokio", 90_000.0, 9000.0),
            finding("ping-pong/64", "native/tokio", 100_000.0, 8000.0),
            finding("ping-pong/64", "evented/poll", 99_000.0, 8100.0),
            finding("ping-pong/64", "native/epoll", 99_000.0, 8100.0),
            finding("size/4096", "native/tokio", 60_000.0, 12_000.0),
        ];
        report
    }

    #[test]
    fn points_are_in_order_and_of_the_servers_that_were_measured() {
        let [(_, connections), (_, sizes), (_, cores)] = charts(&report());
        let native = &connections.series[0];
        assert_eq!(native.name, "native/tokio");
        assert_eq!(native.points, [(64.0, 8.0), (1000.0, 9.0)]);
        assert_eq!(connections.series.len(), 2);
        assert_eq!(sizes.series[0].points, [(64.0, 8.0), (4096.0, 12.0)]);
        assert_eq!(cores.series[1].points, [(1.0, 99.0)]);
    }

    #[test]
    fn a_plot_of_single_points_is_not_written() {
        let directory = std::env::temp_dir().join(format!("benches-plots-{}", std::process::id()));
        let written = write(&report(), &directory);
        let files: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(written.unwrap(), ["connections.svg", "sizes.svg"]);
        assert_eq!(files.len(), 2);
    }
}
