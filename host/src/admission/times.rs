//! The times of day at which peers may come in.

use std::fmt;
use std::str::FromStr;

/// Minutes in a day.
const DAY: u16 = 24 * 60;

/// A span of the day, `HH:MM-HH:MM`, in local time. The first minute is in it, and the
/// last is not. One that begins later than it ends goes over midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessTime {
    /// The first minute, from midnight.
    from: u16,
    /// The first minute that is not in it any more.
    to: u16,
}

/// Why a text is no span of the day.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessTimeError {
    /// It has another form.
    #[error("write HH:MM-HH:MM, for example 08:00-17:30, or 22:00-06:00 over midnight")]
    Syntax,
    /// It begins when it ends.
    #[error("it is empty; write 00:00-24:00 for the whole day")]
    Empty,
}

impl FromStr for AccessTime {
    type Err = AccessTimeError;

    fn from_str(text: &str) -> Result<Self, AccessTimeError> {
        let (from, to) = text.split_once('-').ok_or(AccessTimeError::Syntax)?;
        let from = minute(from).filter(|from| *from < DAY);
        let (Some(from), Some(to)) = (from, minute(to)) else {
            return Err(AccessTimeError::Syntax);
        };
        if from == to {
            return Err(AccessTimeError::Empty);
        }
        Ok(Self { from, to })
    }
}

/// Parses `HH:MM`, to the end of the day.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|_| is_number)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY).then_some(minute)
}

impl fmt::Display for AccessTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(
            f,
            "{:02}:{:02}-{:02}:{:02}",
            from / 60,
            from % 60,
            to / 60,
            to % 60
        )
    }
}

impl AccessTime {
    /// Whether a minute of the day is in it.
    fn contains(self, minute: u16) -> bool {
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }
}

/// Whether a minute of the day is in one of the spans. Without spans every minute is.
pub(super) fn let_in(times: &[AccessTime], minute: impl FnOnce() -> u16) -> bool {
    if times.is_empty() {
        return true;
    }
    let minute = minute();
    times.iter().any(|time| time.contains(minute))
}

/// The minute of the day, where the machine is: as TZ or /etc/localtime say.
pub(super) fn minute_of_day() -> u16 {
    let now = jiff::Zoned::now();
    let minute = i32::from(now.hour()) * 60 + i32::from(now.minute());
    u16::try_from(minute).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_may_go_over_midnight() {
        let check = |spans: &[&str], inside: &[&str], outside: &[&str]| {
            let times: Vec<AccessTime> = spans.iter().map(|it| it.parse().unwrap()).collect();
            let found = |at: &str| let_in(&times, || minute(at).unwrap());
            assert!(inside.iter().all(|at| found(at)), "{spans:?} {inside:?}");
            assert!(!outside.iter().any(|at| found(at)), "{spans:?} {outside:?}");
        };
        check(&[], &["00:00", "23:59"], &[]);
        check(
            &["08:00-17:30"],
            &["08:00", "12:00", "17:29"],
            &["07:59", "17:30", "00:00", "23:59"],
        );
        check(
            &["22:00-06:00"],
            &["22:00", "23:59", "00:00", "05:59"],
            &["06:00", "12:00", "21:59"],
        );
        check(&["00:00-24:00"], &["00:00", "23:59"], &[]);
        check(&["12:00-24:00"], &["12:00", "23:59"], &["00:00", "11:59"]);
        check(
            &["01:00-02:00", "03:00-04:00"],
            &["01:30", "03:30"],
            &["02:30", "04:00"],
        );
    }

    #[test]
    fn what_is_no_span_is_refused() {
        let check = |text: &str, expected: AccessTimeError| {
            assert_eq!(text.parse::<AccessTime>(), Err(expected), "{text}");
        };
        for text in [
            "",
            "8",
            "08:00",
            "8:00-9:00",
            "08:00-",
            "-09:00",
            "08:60-09:00",
            "24:00-01:00",
            "08:00-24:01",
            "08:00-25:00",
            "08:00–09:00",
            "+8:00-09:00",
            "08:00-09:00-10:00",
        ] {
            check(text, AccessTimeError::Syntax);
        }
        check("08:00-08:00", AccessTimeError::Empty);
        let time: AccessTime = "22:05-06:00".parse().unwrap();
        assert_eq!(time.to_string(), "22:05-06:00");
    }

    #[test]
    fn the_minute_is_one_of_the_day() {
        assert!(minute_of_day() < DAY);
    }
}
