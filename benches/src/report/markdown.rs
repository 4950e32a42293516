//! The short tables of a document: a row per server, a column per work.

use super::{Finding, Report};
use crate::work::Work;
use std::fmt::Write as _;

/// A table: its headline, which work is in it, and what stands in a cell.
struct Table {
    headline: &'static str,
    is_meant: fn(&str) -> bool,
    cell: fn(&Finding) -> Option<String>,
}

const TABLES: [Table; 4] = [
    Table {
        headline: "Streams: the rate as a ratio to native, and in brackets the processor time",
        is_meant: |work| !is_of_values(work) && !is_of_others(work),
        cell: ratios,
    },
    Table {
        headline: "Chat and datagrams: the same",
        is_meant: is_of_others,
        cell: ratios,
    },
    Table {
        headline: "Memory per connection in KiB, and start to ready in ms",
        is_meant: |work| work.starts_with("idle/") || work.starts_with("start/"),
        cell: value,
    },
    Table {
        headline: "Swaps: pause and first answer in ms, memory in KiB",
        is_meant: |work| work.starts_with("swap-"),
        cell: value,
    },
];

fn is_of_values(work: &str) -> bool {
    ["idle/", "start/", "swap-"]
        .iter()
        .any(|begin| work.starts_with(begin))
}

fn is_of_others(work: &str) -> bool {
    work.starts_with("chat/") || work.starts_with("datagrams/")
}

/// The tables of a report. Those without figures are left out.
pub(crate) fn whole(report: &Report) -> String {
    let tables = TABLES.iter().filter_map(|table| table.write(report));
    tables.collect::<Vec<_>>().join("\n")
}

impl Table {
    fn write(&self, report: &Report) -> Option<String> {
        // What only the plots need would make the tables too wide.
        let usual: Vec<_> = Work::all(false).iter().map(Work::to_string).collect();
        let is_meant = |it: &&Finding| usual.contains(&it.work) && (self.is_meant)(&it.work);
        let findings = || report.results.iter().filter(is_meant);
        let works = distinct(findings().map(|it| it.work.as_str()));
        let servers = distinct(findings().map(|it| it.server.as_str()));
        if works.is_empty() {
            return None;
        }
        let mut text = format!("**{}**\n\n| server |", self.headline);
        for work in &works {
            let _ = write!(text, " {work} |");
        }
        let _ = write!(text, "\n| --- |{}\n", " ---: |".repeat(works.len()));
        for server in servers {
            let _ = write!(text, "| {server} |");
            for work in &works {
                let cell = report.find(work, server).and_then(self.cell);
                let _ = write!(text, " {} |", cell.as_deref().unwrap_or("–"));
            }
            text.push('\n');
        }
        Some(text)
    }
}

/// The names, each once, in the order in which they come first.
fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

fn ratios(finding: &Finding) -> Option<String> {
    let (rate, cost) = (finding.ratio?, finding.cost_ratio?);
    Some(format!("{rate:.2} ({cost:.2})"))
}

fn value(finding: &Finding) -> Option<String> {
    let value = finding.value?;
    Some(match value {
        100.0.. => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    })
}

#[cfg(test)]
mod tests {
    use super::whole;
    use crate::report::{Finding, Machine, Report};

    #[test]
    fn a_row_is_a_server_and_a_column_is_work() {
        let finding = |work: &str, server: &str, value: Option<f64>| -> Finding {
            serde_json::from_value(serde_json::json!({
                "work": work, "server": server, "unit": "u", "value": value,
                "ratio": value, "cost_ratio": value.map(|value| value * 2.0), "samples": [],
            }))
            .unwrap()
        };
        let mut report = Report::new(Machine::new("", "6", 2, true), 1, 1000);
        report.results = vec![
            finding("connect", "a", Some(1.0)),
            finding("connect", "b", None),
            finding("unix", "a", Some(0.5)),
            finding("size/256", "a", Some(0.5)),
            finding("idle/10000", "b", Some(123.4)),
        ];
        let expected = "\
**Streams: the rate as a ratio to native, and in brackets the processor time**

| server | connect | unix |
| --- | ---: | ---: |
| a | 1.00 (2.00) | 0.50 (1.00) |
| b | – | – |

**Memory per connection in KiB, and start to ready in ms**

| server | idle/10000 |
| --- | ---: |
| b | 123 |
";
        assert_eq!(whole(&report), expected);
    }
}
