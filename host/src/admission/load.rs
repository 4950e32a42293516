//! How much the machine has to do: the average of the last minute.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long a reading counts. The kernel makes a new average every five seconds.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// The load at which a service stops accepting: as many processes run or wait to run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaxLoad(f64);

impl FromStr for MaxLoad {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let load: Option<f64> = text.parse().ok();
        match load.filter(|load| load.is_finite() && *load > 0.0) {
            Some(load) => Ok(Self(load)),
            None => Err("write a load over zero, for example 8 or 2.5"),
        }
    }
}

impl MaxLoad {
    /// Whether a load has reached it.
    pub(super) fn is_reached(self, load: f64) -> bool {
        load >= self.0
    }
}

/// The load as it was last read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    last: Option<(Instant, Option<f64>)>,
}

impl Load {
    /// The load, by `read` if the last reading is old. `None` if it cannot be read.
    pub(super) fn at(&mut self, now: Instant, read: impl FnOnce() -> Option<f64>) -> Option<f64> {
        match self.last {
            Some((at, load)) if now.saturating_duration_since(at) < INTERVAL => load,
            _ => {
                let load = read();
                self.last = Some((now, load));
                load
            }
        }
    }
}

/// Reads the machine's load. `None` if the system does not say.
pub(super) fn read() -> Option<f64> {
    parse(&std::fs::read_to_string("/proc/loadavg").ok()?)
}

/// The average of the last minute, which is the first number of `/proc/loadavg`.
fn parse(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_number_is_the_last_minutes() {
        assert_eq!(parse("0.52 1.08 1.37 2/1234 56789\n"), Some(0.52));
        assert_eq!(parse("12.00"), Some(12.0));
        assert_eq!(parse(""), None);
        assert_eq!(parse("much"), None);
        assert!(read().unwrap() >= 0.0);
    }

    #[test]
    fn it_is_read_at_most_once_a_second() {
        let (mut load, begun) = (Load::default(), Instant::now());
        let mut at = |ms, value| load.at(begun + Duration::from_millis(ms), || value);
        assert_eq!(at(0, Some(1.0)), Some(1.0));
        assert_eq!(at(999, Some(2.0)), Some(1.0));
        assert_eq!(at(1000, Some(2.0)), Some(2.0));
        assert_eq!(at(1001, Some(3.0)), Some(2.0));
        // What cannot be read is not tried again at once.
        assert_eq!(at(2000, None), None);
        assert_eq!(at(2999, Some(1.0)), None);
        assert_eq!(at(3000, Some(1.0)), Some(1.0));
    }

    #[test]
    fn a_load_is_over_zero() {
        let reached = |most: &str, load| most.parse::<MaxLoad>().unwrap().is_reached(load);
        assert!(!reached("2.5", 2.49));
        assert!(reached("2.5", 2.5));
        assert!(reached("8", 100.0));
        for text in ["", "0", "-1", "nan", "inf", "much", "0.0"] {
            assert!(text.parse::<MaxLoad>().is_err(), "{text}");
        }
    }
}
