//! C's `ctime`, read back.

use std::time::{SystemTime, UNIX_EPOCH};

use super::text;

const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
const DAYS: &str = "ThuFriSatSunMonTueWed";

/// How long `ctime` and `\r\n` are.
pub(crate) const LENGTH: usize = 26;

/// Seconds since 1970 now.
pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Checks that `answer` is `ctime\r\n` in UTC, of a moment since `earliest`.
#[track_caller]
pub(crate) fn check(answer: &[u8], earliest: u64) {
    let seconds = parse(answer).unwrap_or_else(|| panic!("not a time: {}", text(answer)));
    assert!(
        (earliest..=now()).contains(&seconds),
        "{} is {seconds}, not from {earliest} to {}",
        text(answer),
        now()
    );
}

/// The moment that `ctime\r\n` names; nothing if it is of another form.
fn parse(answer: &[u8]) -> Option<u64> {
    let answer = std::str::from_utf8(answer).ok()?.strip_suffix("\r\n")?;
    // `Sat Nov  7 18:35:07 2026`: the day is padded with a space.
    if answer.len() != LENGTH - 2 {
        return None;
    }
    let number = |from: usize, to: usize| answer[from..to].trim_start().parse::<i64>().ok();
    let month = i64::try_from(MONTHS.find(&answer[4..7])? / 3).ok()? + 1;
    let (day, year) = (number(8, 10)?, number(20, 24)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let days = days_since_1970(year, month, day);
    let weekday = usize::try_from(days % 7).ok()? * 3;
    let seconds = u64::try_from(((days * 24 + hour) * 60 + minute) * 60 + second).ok()?;
    let shape = format!(
        "{} {} {day:2} {hour:02}:{minute:02}:{second:02} {year}",
        &DAYS[weekday..weekday + 3],
        &answer[4..7],
    );
    (shape == answer).then_some(seconds)
}

/// In the Gregorian calendar, counting years from March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let since_march = (month + 9) % 12;
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (since_march * 153 + 2) / 5 + day - 1 - 719_468
}

#[test]
fn times_are_read_back() {
    #[track_caller]
    fn check(answer: &str, expected: Option<u64>) {
        assert_eq!(parse(answer.as_bytes()), expected, "{answer:?}");
    }
    check("Thu Jan  1 00:00:00 1970\r\n", Some(0));
    check("Sat Nov 21 18:35:07 2026\r\n", Some(1_795_286_107));
    check("Thu Feb 29 23:59:59 2024\r\n", Some(1_709_251_199));
    check("Fri Nov 21 18:35:07 2026\r\n", None);
    check("Sat Nov 21 18:35:07 2026\n", None);
    check("Thu Jan 01 00:00:00 1970\r\n", None);
}
