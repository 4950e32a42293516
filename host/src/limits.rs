//! The limits of a service. Each default is documented and asserted here.

use std::time::Duration;

/// The limits of one service.
///
/// A limit keeps one peer or one guest from taking resources of the others:
/// descriptors, memory, or time on a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections that are open at once, those that are closing included; or
    /// datagrams that are served at once by instances of their own. By default 1024.
    ///
    /// At the limit the service stops accepting, and further peers wait in the
    /// kernel's backlog. Datagrams wait in its buffer, and it drops those that it has
    /// no room for.
    pub max_connections: u32,
    /// The memory of one instance: its linear memories and tables together, in
    /// bytes. By default 64 MiB.
    ///
    /// An instance that asks for more traps. Under `poll` with `evented` or
    /// `concurrent` all connections share this memory.
    pub max_memory_bytes: u64,
    /// How long a guest may compute without waiting and without moving a byte. Also how
    /// long a whole turn of `evented` may take, and a batch of `datagram` under `poll`. By default one second. It is
    /// counted in steps of 10 ms.
    pub deadline: Duration,
    /// Threads that run guests under `threaded`. By default one per processor.
    pub workers: usize,
    /// Connections that the kernel holds before they are accepted. By default 1024;
    /// the kernel lowers this to `net.core.somaxconn`.
    pub backlog: u32,
    /// How long the close of a connection may take. In this time the host sends
    /// what the guest has written, then reads and drops what the peer sends, up to
    /// the peer's FIN, so that no RST overtakes the answer. By default 2 seconds. A
    /// peer that has not taken all of the output by then is reset.
    pub close_timeout: Duration,
    /// How long open connections may continue after the service was told to stop.
    /// By default 10 seconds. Connections that are still open then are closed.
    pub drain_timeout: Duration,
    /// How long a peer may take to send its first byte. By default without limit.
    ///
    /// This and the three that follow end a connection whose handler is not done; the
    /// connection counts as failed by a time-out. None of them ends one early; each may be
    /// late by a thirty-second of the shortest one, at least 10 ms and at most a second.
    pub first_byte_timeout: Option<Duration>,
    /// How long a connection may be without a byte in either direction. By default without
    /// limit.
    pub idle_timeout: Option<Duration>,
    /// How long a peer may take nothing though there is something for it. By default
    /// without limit. The connection is reset.
    pub write_timeout: Option<Duration>,
    /// How long a connection may be open. By default without limit.
    pub connection_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_memory_bytes: 64 << 20,
            deadline: Duration::from_secs(1),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            backlog: 1024,
            close_timeout: Duration::from_secs(2),
            drain_timeout: Duration::from_secs(10),
            first_byte_timeout: None,
            idle_timeout: None,
            write_timeout: None,
            connection_timeout: None,
        }
    }
}

/// The longest time that can be asked for: a hundred years. It is practically
/// endless, and can be added to any clock.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);

/// Why a time was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TimeError {
    #[error("it is no time: write a number and a unit, for example 500ms, 2s or 5min")]
    Syntax,
    #[error("it is longer than 36525days, which is the longest time there is")]
    TooLong,
    #[error("it must be longer than zero")]
    Zero,
}

/// Parses a time as arguments and requests have it: `500ms`, `1min 30s`.
pub(crate) fn parse_time(text: &str) -> Result<Duration, TimeError> {
    match humantime::parse_duration(text) {
        Ok(time) if time <= MAX_TIME => Ok(time),
        Ok(_) | Err(humantime::DurationError::NumberOverflow) => Err(TimeError::TooLong),
        Err(_) => Err(TimeError::Syntax),
    }
}

/// Parses a time that must be longer than zero.
pub(crate) fn parse_time_over_zero(text: &str) -> Result<Duration, TimeError> {
    match parse_time(text)? {
        Duration::ZERO => Err(TimeError::Zero),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_can_be_added_to_any_clock() {
        for (text, expected) in [
            ("500ms", Ok(Duration::from_millis(500))),
            ("1min 30s", Ok(Duration::from_secs(90))),
            ("0s", Ok(Duration::ZERO)),
            ("36525days", Ok(MAX_TIME)),
            ("36525days 1ns", Err(TimeError::TooLong)),
            ("500000000000y", Err(TimeError::TooLong)),
            ("18446744073709551615s", Err(TimeError::TooLong)),
            ("18446744073709551616s", Err(TimeError::TooLong)),
            ("99999999999999999999999999999y", Err(TimeError::TooLong)),
            ("", Err(TimeError::Syntax)),
            ("1", Err(TimeError::Syntax)),
            ("-1s", Err(TimeError::Syntax)),
            ("+1s", Err(TimeError::Syntax)),
            ("1.5", Err(TimeError::Syntax)),
            ("soon", Err(TimeError::Syntax)),
        ] {
            assert_eq!(parse_time(text), expected, "{text:?}");
        }
        assert_eq!(parse_time_over_zero("0s"), Err(TimeError::Zero));
        assert_eq!(parse_time_over_zero("0"), Err(TimeError::Zero));
        assert!(std::time::Instant::now().checked_add(MAX_TIME).is_some());
        assert!(std::time::SystemTime::now().checked_add(MAX_TIME).is_some());
    }

    #[test]
    fn defaults_are_as_documented() {
        let limits = Limits::default();
        assert_eq!(limits.max_connections, 1024);
        assert_eq!(limits.max_memory_bytes, 64 * 1024 * 1024);
        assert_eq!(limits.deadline, Duration::from_secs(1));
        assert_eq!(
            limits.workers,
            std::thread::available_parallelism().unwrap().get()
        );
        assert_eq!(limits.backlog, 1024);
        assert_eq!(limits.close_timeout, Duration::from_secs(2));
        assert_eq!(limits.drain_timeout, Duration::from_secs(10));
        let timeouts = [
            limits.first_byte_timeout,
            limits.idle_timeout,
            limits.write_timeout,
            limits.connection_timeout,
        ];
        assert_eq!(timeouts, [None; 4]);
    }
}
