//! Numbers in few characters, for columns.

use std::time::Duration;

/// The units of counts above 9999, and of bytes above 1023.
const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];

/// A count in at most five characters: `9999`, `12.3k`, `999k`.
#[allow(clippy::cast_precision_loss, reason = "it is shown with three digits")]
pub(super) fn count(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        _ => scaled(count as f64, 1000.0),
    }
}

/// A rate in at most five characters. What is too small to be seen is not 0.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        small if small < 0.1 => "<0.1".to_owned(),
        small if small < 99.95 => format!("{small:.1}"),
        medium if medium < 9999.5 => format!("{medium:.0}"),
        _ => scaled(rate, 1000.0),
    }
}

/// Bytes in at most five characters. `K` is 1024 bytes.
pub(super) fn bytes(bytes: f64) -> String {
    if bytes < 1023.5 {
        format!("{bytes:.0}")
    } else {
        scaled(bytes, 1024.0).to_uppercase()
    }
}

/// The same for a number of bytes.
#[allow(clippy::cast_precision_loss, reason = "it is shown with three digits")]
pub(super) fn size(count: u64) -> String {
    bytes(count as f64)
}

/// A number with three digits and a unit.
fn scaled(number: f64, step: f64) -> String {
    let mut left = number;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    // What would be rounded to a fourth digit goes to the next unit.
    while left >= 999.5
        && let Some(next) = units.next()
    {
        left /= step;
        unit = next;
    }
    let digits = usize::from(left < 99.95);
    format!("{left:.digits$}{unit}")
}

/// A time of so many seconds, which is a limit of the histogram: `300µs`, `10ms`, `100s`.
pub(super) fn limit(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    match time.as_micros() {
        micros @ 0..1000 => format!("{micros}µs"),
        micros @ 1000..1_000_000 => format!("{}ms", micros / 1000),
        micros => format!("{}s", micros / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, expected) in [
            (0, "0"),
            (9_999, "9999"),
            (10_000, "10.0k"),
            (99_960, "100k"),
            (999_499, "999k"),
            (999_500, "1.0M"),
            (u64::MAX, "18447P"),
        ] {
            assert_eq!(count(number), expected);
        }
        for (number, expected) in [
            (0.0, "0"),
            (0.01, "<0.1"),
            (0.1, "0.1"),
            (5.0, "5.0"),
            (99.96, "100"),
            (9_999.0, "9999"),
            (12_345.0, "12.3k"),
        ] {
            assert_eq!(rate(number), expected);
        }
        for (number, expected) in [
            (0.0, "0"),
            (1023.0, "1023"),
            (1024.0, "1.0K"),
            (1_048_576.0, "1.0M"),
            (67_108_864.0, "64.0M"),
            (1_000.0 * 1_048_576.0, "1.0G"),
        ] {
            assert_eq!(bytes(number), expected);
        }
        for (seconds, expected) in [
            (0.000_01, "10µs"),
            (0.001, "1ms"),
            (0.3, "300ms"),
            (1.0, "1s"),
            (300.0, "300s"),
        ] {
            assert_eq!(limit(seconds), expected);
        }
    }
}
