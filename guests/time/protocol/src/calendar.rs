//! Seconds since 1970 as C's `ctime` and as HTTP write them, in UTC.

const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

const DAY: u64 = 24 * 60 * 60;

/// `Sat Nov  7 18:35:07 2026`: C's `ctime` without its newline, in UTC.
pub fn ctime(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / DAY, unix_seconds % DAY);
    let (year, month, day) = date(days);
    format!(
        "{} {} {day:2} {:02}:{:02}:{:02} {year}",
        name(&WEEKDAYS, days % 7),
        name(&MONTHS, month),
        second / 3600,
        second / 60 % 60,
        second % 60,
    )
}

/// `Sat, 07 Nov 2026 18:35:07 GMT`: the date of HTTP (RFC 9110, 5.6.7).
pub fn imf_fixdate(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / DAY, unix_seconds % DAY);
    let (year, month, day) = date(days);
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        name(&WEEKDAYS, days % 7),
        name(&MONTHS, month),
        second / 3600,
        second / 60 % 60,
        second % 60,
    )
}

/// Reads what [`imf_fixdate`] writes. `None` for anything else, also for a day that there
/// is not.
pub fn parse_imf_fixdate(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let month = MONTHS
        .iter()
        .position(|&name| text.get(8..11) == Some(name))?;
    let (day, year) = (number(5, 7)?, number(12, 16)?);
    let (hour, minute, second) = (number(17, 19)?, number(20, 22)?, number(23, 25)?);
    let days = days(year, u64::try_from(month).ok()?, day)?;
    let seconds = days * DAY + hour * 3600 + minute * 60 + second;
    // That also checks all the characters that were not read.
    (imf_fixdate(seconds) == text).then_some(seconds)
}

/// The days from 1970-01-01 to a date, with its month from 0 and its day from 1. The
/// reverse of [`date`].
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let month_from_march = (month + 10) % 12;
    let year = year.checked_sub(u64::from(month < 2))?;
    let day_of_year = (153 * month_from_march + 2) / 5 + day;
    let before = 365 * year + year / 4 - year / 100 + year / 400;
    (before + day_of_year).checked_sub(719_469)
}

fn name(names: &[&'static str], index: u64) -> &'static str {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    names.get(index).copied().unwrap_or_default()
}

/// Year, month from 0, and day from 1 of the days since 1970-01-01.
///
/// Counts from 1 March of the year 0. So a leap day is the last day of its year, and all
/// Gregorian cycles of 400 years are alike (Hinnant's `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    const CYCLE: u64 = 146_097;
    let days = days + 719_468;
    let (cycle, day_of_cycle) = (days / CYCLE, days % CYCLE);
    let leap_days = day_of_cycle / 1460 - day_of_cycle / 36_524 + day_of_cycle / 146_096;
    let year_of_cycle = (day_of_cycle - leap_days) / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    // From March on, months of 31, 30, 31, 30 and 31 days repeat every 153 days.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = cycle * 400 + year_of_cycle + u64::from(month < 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        #[track_caller]
        fn check(unix_seconds: u64, expected: &str) {
            assert_eq!(ctime(unix_seconds), expected, "{unix_seconds}");
        }
        check(0, "Thu Jan  1 00:00:00 1970");
        check(86_399, "Thu Jan  1 23:59:59 1970");
        check(86_400, "Fri Jan  2 00:00:00 1970");
        check(68_169_600, "Tue Feb 29 00:00:00 1972");
        check(68_256_000, "Wed Mar  1 00:00:00 1972");
        check(951_782_400, "Tue Feb 29 00:00:00 2000");
        check(951_868_799, "Tue Feb 29 23:59:59 2000");
        check(951_868_800, "Wed Mar  1 00:00:00 2000");
        check(1_000_000_000, "Sun Sep  9 01:46:40 2001");
        check(1_794_076_507, "Sat Nov  7 18:35:07 2026");
        check(1_795_286_107, "Sat Nov 21 18:35:07 2026");
        check(1_798_761_599, "Thu Dec 31 23:59:59 2026");
        check(2_147_483_647, "Tue Jan 19 03:14:07 2038");
        check(2_147_483_648, "Tue Jan 19 03:14:08 2038");
        check(4_107_542_399, "Sun Feb 28 23:59:59 2100");
        check(4_107_542_400, "Mon Mar  1 00:00:00 2100");
        check(253_402_300_799, "Fri Dec 31 23:59:59 9999");
    }

    #[test]
    fn dates_of_http() {
        #[track_caller]
        fn check(unix_seconds: u64, text: &str) {
            assert_eq!(imf_fixdate(unix_seconds), text, "{unix_seconds}");
            assert_eq!(parse_imf_fixdate(text), Some(unix_seconds), "{text}");
        }
        check(0, "Thu, 01 Jan 1970 00:00:00 GMT");
        check(784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT");
        check(1_794_076_507, "Sat, 07 Nov 2026 18:35:07 GMT");
        check(253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT");
        for wrong in [
            "",
            "Sat Nov  7 18:35:07 2026",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Mon, 06 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 UTC",
            "Sun, 06 Nov 1994 08:49:37 GMT ",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Wed, 30 Feb 2000 00:00:00 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Thu, 01 Jan 0000 00:00:00 GMT",
            "Thü, 01 Jan 1970 00:00:00 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse_imf_fixdate(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn every_day_of_400_years_follows_the_one_before() {
        let (mut year, mut month, mut day) = (1970, 0, 1);
        for days in 0..146_097 {
            assert_eq!(date(days), (year, month, day));
            assert_eq!(super::days(year, month, day), Some(days));
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                1 if leap => 29,
                1 => 28,
                3 | 5 | 8 | 10 => 30,
                _ => 31,
            };
            day += 1;
            if day > length {
                (month, day) = (month + 1, 1);
            }
            if month == 12 {
                (year, month) = (year + 1, 0);
            }
        }
    }
}
