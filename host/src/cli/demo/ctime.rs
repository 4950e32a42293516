//! What the time services have to answer: C's `ctime`, in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// From the weekday of 1970-01-01 on.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// The second since 1970 as `Wed Nov 25 19:20:01 2026`.
pub(super) fn ctime(second: u64) -> String {
    let time: Option<SystemTime> = UNIX_EPOCH.checked_add(Duration::from_secs(second));
    // `2026-11-25T19:20:01Z`
    let text = crate::text::rfc3339(time.unwrap_or(UNIX_EPOCH));
    let part = |from, to| text.get(from..to).unwrap_or_default();
    let month = part(5, 7).parse().unwrap_or(1_usize).saturating_sub(1);
    let month = MONTHS.get(month).copied().unwrap_or_default();
    let day = part(8, 10).trim_start_matches('0');
    let weekday = usize::try_from(second / SECONDS_PER_DAY % 7).unwrap_or_default();
    let weekday = WEEKDAYS.get(weekday).copied().unwrap_or_default();
    format!("{weekday} {month} {day:>2} {} {}", part(11, 19), part(0, 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As CPython's `time.asctime(time.gmtime(second))` has them.
    #[test]
    fn a_second_is_written_as_c_does() {
        for (second, expected) in [
            (0, "Thu Jan  1 00:00:00 1970"),
            (951_782_400, "Tue Feb 29 00:00:00 2000"),
            (1_795_634_401, "Wed Nov 25 19:20:01 2026"),
            (4_102_444_799, "Thu Dec 31 23:59:59 2099"),
        ] {
            assert_eq!(ctime(second), expected);
        }
    }
}
