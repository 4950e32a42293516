//! The table, for people.

use super::statistics::median;
use super::{Finding, Machine, Report};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is said before all tables.
pub(crate) fn preface(machine: &Machine, rounds: usize, window: u64) -> String {
    let Machine {
        processor,
        congestion_control,
        kernel,
        cores,
        clients_apart,
    } = machine;
    let cores_used = if *clients_apart {
        "the server has one core, and the clients have another"
    } else {
        "there is one core, which the server and the clients share: rates and ratios say little"
    };
    let word = if *cores == 1 { "core" } else { "cores" };
    let times = if rounds == 1 { "round" } else { "rounds" };
    format!(
        "{processor}, {cores} {word}, Linux {kernel}, TCP with {congestion_control}; {cores_used}\n\
         {rounds} {times} of {window} ms; x is the ratio to native/tokio in the same round; \
         times are the server's processor time per operation\n"
    )
}

/// All tables of a report.
pub(crate) fn whole(report: &Report, describe: impl Fn(&str) -> String) -> String {
    let mut text = preface(&report.machine, report.rounds, report.window_milliseconds);
    let mut results = report.results.as_slice();
    while let Some(first) = results.first() {
        let other = results.iter().position(|other| other.work != first.work);
        let (these, rest) = results.split_at(other.unwrap_or(results.len()));
        text.push_str(&of_work(&first.work, &describe(&first.work), these));
        results = rest;
    }
    text
}

/// The table of one work.
pub(crate) fn of_work(work: &str, description: &str, results: &[Finding]) -> String {
    let unit = results.first().map_or("", |result| result.unit.as_str());
    let mut text = format!("\n{work}: {description}\n");
    let _ = writeln!(
        text,
        "  {:<30} {unit:>13} {:>6} {:>9} {:>9} {:>9} {:>6} {:>7}  limit",
        "server", "x", "user", "system", "total", "x", "target"
    );
    for result in results {
        let line = line(result);
        let _ = writeln!(text, "  {:<30} {}", result.server, line.trim_end());
    }
    text
}

fn line(result: &Finding) -> String {
    if let Some(why) = &result.failed {
        return format!("failed: {why}");
    }
    if let Some(why) = &result.skipped {
        return format!("skipped: {why}");
    }
    let cost = result.cost.as_ref();
    let target = result
        .target
        .map_or(String::new(), |target| format!("≤ {target}"));
    let more = more(result);
    format!(
        "{:>13} {:>6} {:>9} {:>9} {:>9} {:>6} {target:>7}  {} {more}",
        result.value.map_or(String::new(), number),
        ratio(result.ratio),
        time(cost.and_then(|cost| cost.user)),
        time(cost.and_then(|cost| cost.system)),
        time(cost.map(|cost| cost.total)),
        ratio(result.cost_ratio),
        result.limit.as_deref().unwrap_or_default(),
    )
}

/// What else the samples say: medians, by name.
fn more(result: &Finding) -> String {
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in result.samples.iter().flat_map(|sample| &sample.more) {
        all.entry(name).or_default().push(*value);
    }
    let named = all.iter().filter_map(|(name, values)| {
        let value = number(median(values)?);
        Some(match name.split_once(", ") {
            Some((name, unit)) => format!("{name} {value} {unit}"),
            None => format!("{name} {value}"),
        })
    });
    named.collect::<Vec<_>>().join(", ")
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"))
}

/// A number with about three digits that mean something.
fn number(value: f64) -> String {
    if value >= 100.0 {
        grouped(value)
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// A number with spaces between thousands.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds in the unit in which they are short.
fn time(nanoseconds: Option<f64>) -> String {
    match nanoseconds {
        None => String::new(),
        Some(time) if time < 1e3 => format!("{time:.0} ns"),
        Some(time) if time < 1e6 => format!("{:.1} µs", time / 1e3),
        Some(time) => format!("{:.1} ms", time / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::{number, of_work, preface, time};
    use crate::report::{Gathered, Machine};
    use crate::servers::Server;
    use crate::work::Work;

    #[test]
    fn numbers_are_short() {
        let check = |value, expected: &str| assert_eq!(number(value), expected);
        check(0.057, "0.06");
        check(12.34, "12.3");
        check(999.6, "1 000");
        check(123_456.7, "123 457");
        let check = |value, expected: &str| assert_eq!(time(value), expected);
        check(None, "");
        check(Some(312.4), "312 ns");
        check(Some(10_250.0), "10.2 µs");
        check(Some(2.5e6), "2.5 ms");
    }

    #[test]
    fn a_machine_with_one_core_is_told() {
        let check = |cores, apart, rounds, expected: &str| {
            let machine = Machine::new("model name : P", "6.1", cores, apart);
            let text = preface(&machine, rounds, 60);
            assert!(text.starts_with(expected), "{text}");
        };
        check(
            2,
            true,
            5,
            "P, 2 cores, Linux 6.1, TCP with unknown; the server has one core, and the clients",
        );
        check(
            1,
            false,
            1,
            "P, 1 core, Linux 6.1, TCP with unknown; there is one core, which the server and",
        );
    }

    #[test]
    fn what_is_missing_is_in_the_table() {
        let mut missing = Gathered::new(Server::Epoll);
        missing.skipped = Some("there is none".to_owned());
        let mut broken = Gathered::new(Server::Recvmmsg);
        broken.failed = Some("it broke".to_owned());
        let results = [missing, broken].map(|one| one.conclude(Work::Connect, None));
        let table = of_work("connect", "description", &results);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[1], "connect: description");
        assert!(lines[2].contains("connections/s"));
        assert!(lines[3].ends_with(" skipped: there is none"), "{table}");
        assert!(lines[4].ends_with(" failed: it broke"), "{table}");
    }
}
