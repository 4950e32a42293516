//! The access log: a line per connection, when it has ended.

use crate::connection::record::Moment;
use crate::version::stay::Admitted;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Of which connections the log has a line when they have ended, at the level INFO with the
/// target `access`.
///
/// The line says the service, the version, the connection's number and its peer, how long
/// it was open in milliseconds, its bytes in each direction, its outcome (`ok` or `failed`)
/// and, if it failed, the reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Of none. The default.
    #[default]
    Off,
    /// Of those that failed.
    Failed,
    /// Of all.
    All,
    /// Of each connection whose number is divisible by this.
    OneIn(NonZeroU32),
}

/// Why text names no access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write off, failed, all, or 1/N for one connection in N")]
pub struct AccessLogError;

impl FromStr for AccessLog {
    type Err = AccessLogError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "failed" => Ok(Self::Failed),
            "all" => Ok(Self::All),
            _ => {
                let count = text.strip_prefix("1/").ok_or(AccessLogError)?;
                let is_number = count.bytes().all(|byte| byte.is_ascii_digit());
                let count = count.parse().ok().filter(|_| is_number);
                count.map(Self::OneIn).ok_or(AccessLogError)
            }
        }
    }
}

impl fmt::Display for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Failed => f.write_str("failed"),
            Self::All => f.write_str("all"),
            Self::OneIn(count) => write!(f, "1/{count}"),
        }
    }
}

impl AccessLog {
    /// Whether it has a line of the connection with this number.
    fn has(self, connection: u64, failed: bool) -> bool {
        match self {
            Self::Off => false,
            Self::Failed => failed,
            Self::All => true,
            Self::OneIn(count) => connection.is_multiple_of(u64::from(count.get())),
        }
    }

    /// Writes the line of a connection that is closed now.
    pub(super) fn write(self, service: &str, admitted: &Admitted) {
        let Admitted { connection, stay } = admitted;
        let failed = stay.failure();
        if stay.version().is_probe() || !self.has(connection.id(), failed.is_some()) {
            return;
        }
        let record = connection.record();
        let open = Moment::now().since(record.opened());
        tracing::info!(
            target: "access",
            service,
            version = stay.version().number.get(),
            connection = record.id,
            peer = %record.peer,
            milliseconds = u64::try_from(open.as_millis()).unwrap_or(u64::MAX),
            bytes_in = record.bytes_in(),
            bytes_out = record.bytes_out(),
            outcome = if failed.is_some() { "failed" } else { "ok" },
            reason = failed,
            "connection ended"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_it_parses() {
        for text in ["off", "failed", "all", "1/1", "1/4294967295"] {
            assert_eq!(text.parse::<AccessLog>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "on",
            "1/",
            "1/0",
            "1/-1",
            "1/+1",
            "1/4294967296",
            "2/3",
            "10%",
        ] {
            assert_eq!(text.parse::<AccessLog>(), Err(AccessLogError), "{text}");
        }
        assert_eq!(AccessLog::default(), AccessLog::Off);
    }

    #[test]
    fn a_sample_has_one_of_so_many() {
        let sample = "1/10".parse::<AccessLog>().unwrap();
        assert_eq!((1..=100).filter(|id| sample.has(*id, false)).count(), 10);
        assert!(AccessLog::Failed.has(3, true) && !AccessLog::Failed.has(3, false));
        assert!(AccessLog::All.has(3, false) && !AccessLog::Off.has(3, true));
    }
}
