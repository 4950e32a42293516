//! The resources of a process at several times.

use crate::server::Result;
use sockserve::Status;
use std::process::Child;
use std::time::Duration;

/// The resources that must not grow.
const COLUMNS: [Column; 4] = [
    // A leak per connection would exceed this after some thousands of connections.
    // The arenas of the allocator stay below it.
    Column {
        name: "memory",
        unit: " KiB",
        percent: 15,
        more: 8 << 10,
    },
    Column {
        name: "descriptors",
        unit: "",
        percent: 0,
        more: 2,
    },
    Column {
        name: "mappings",
        unit: "",
        percent: 10,
        more: 50,
    },
    Column {
        name: "threads",
        unit: "",
        percent: 0,
        more: 4,
    },
];

struct Column {
    name: &'static str,
    unit: &'static str,
    /// How much more the last value may be: in percent, and in addition.
    percent: u64,
    more: u64,
}

/// The resources at one time.
pub(crate) struct Row {
    columns: [u64; COLUMNS.len()],
}

#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Row {
    /// Reads the values of the process, and prints them as a line.
    pub(crate) fn new(child: &Child, status: &Status, time: Duration) -> Result<Self> {
        let process = format!("/proc/{}", child.id());
        let text = std::fs::read_to_string(format!("{process}/status"))?;
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_whitespace().next());
            value
                .ok_or("no such line")?
                .parse::<u64>()
                .map_err(Into::into)
        };
        let memory: Result<u64> = value("VmRSS:");
        let threads: Result<u64> = value("Threads:");
        let row = Self {
            columns: [
                memory?,
                std::fs::read_dir(format!("{process}/fd"))?.count() as u64,
                std::fs::read_to_string(format!("{process}/maps"))?
                    .lines()
                    .count() as u64,
                threads?,
            ],
        };
        let [memory, descriptors, mappings, threads] = row.columns;
        let version = status.versions.last().map_or(0, |version| version.number);
        println!(
            "  {:>6.1} s  accepted {:>8}  handled {:>8}  failed {:>7} (peer {:>6})  handed over {:>7}  \
             version {version:>5}  memory {memory:>7} KiB  descriptors {descriptors:>4}  \
             mappings {mappings:>5}  threads {threads:>3}",
            time.as_secs_f32(),
            status.accepted,
            status.handled,
            status.failed.total(),
            status.failed.peer,
            status.hand_overs.handed_over,
        );
        Ok(row)
    }
}

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        self.0.push(row);
    }

    /// Returns the resources that have grown since the second third.
    pub(crate) fn faults(&self) -> Vec<String> {
        let count = self.0.len();
        let (second, last) = (
            self.0.iter().take(count * 2 / 3).skip(count / 3),
            self.0.last(),
        );
        let second: Vec<&Row> = second.collect();
        let mut faults = Vec::new();
        for (number, column) in COLUMNS.iter().enumerate() {
            let of = |row: &Row| row.columns.get(number).copied().unwrap_or_default();
            let before = second.iter().map(|row| of(row)).max().unwrap_or_default();
            let (after, name, unit) = (last.map(of).unwrap_or_default(), column.name, column.unit);
            if after > before + before * column.percent / 100 + column.more {
                faults.push(format!(
                    "{name} grow: {before}{unit} at most in the second third, {after}{unit} at the end"
                ));
            }
        }
        faults
    }
}
