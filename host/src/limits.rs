//! The limits of a service. Each default is documented and asserted here.

use bytesize::ByteSize;
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
    /// Event loops, each with a thread and an instance, of a handler under `poll` whose
    /// instance serves all connections. By default one. New connections go to the loops in
    /// turn. With more than one, the connections have to be independent of each other:
    /// each instance knows of its own ones only.
    pub loops: usize,
    /// How many connections an instance serves, one after another, where each connection
    /// has an instance for itself. By default one. Datagrams and programs have a new
    /// instance each time.
    ///
    /// With more, what a handler keeps in globals, files or memory of one connection is
    /// there when it serves the next one. An instance that has trapped, or that was ended,
    /// serves no other.
    pub reuse: u32,
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
            loops: 1,
            reuse: 1,
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

/// The most connections that a service may be asked to have open.
pub(crate) const MAX_CONNECTIONS: u32 = 1_000_000;

/// Parses the memory of an instance as arguments and requests have it: `64MiB`.
pub(crate) fn parse_memory(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text
        .parse()
        .map_err(|_| "write a size, for example 64MiB".to_owned())?;
    // The limits of wasmtime's address arithmetic, and of what wasm can address.
    if (ByteSize::kib(64)..=ByteSize::gib(4)).contains(&size) {
        Ok(size)
    } else {
        Err("it must be between 64KiB and 4GiB".to_owned())
    }
}

fn parse_connections(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_CONNECTIONS) => Ok(count),
        _ => Err(format!("it must be a number from 1 to {MAX_CONNECTIONS}")),
    }
}

/// Other values for limits of a service that is running. `None` leaves a limit as it is.
///
/// [`set`](Self::set) sets one by the name that its option of `serve` has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitChanges {
    /// The memory of one instance.
    pub max_memory_bytes: Option<u64>,
    /// How long a guest may compute without waiting.
    pub deadline: Option<Duration>,
    /// Connections that are open at once.
    pub max_connections: Option<u32>,
    /// How long the close of a connection may take.
    pub close_timeout: Option<Duration>,
    /// How long a peer may take to send its first byte.
    pub first_byte_timeout: Option<Duration>,
    /// How long a connection may be without a byte in either direction.
    pub idle_timeout: Option<Duration>,
    /// How long a peer may take nothing though there is something for it.
    pub write_timeout: Option<Duration>,
    /// How long a connection may be open.
    pub connection_timeout: Option<Duration>,
}

/// Why a limit is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// No limit has the name, or it does not change while the service runs.
    #[error("no such limit changes by a swap; there are {}", LimitChanges::NAMES.join(", "))]
    Unknown,
    /// The value is not one.
    #[error("{0}")]
    Value(String),
}

impl LimitChanges {
    /// The limits that can change, by the names of their options. The first two belong to
    /// the instances of a version, the others to the service.
    pub const NAMES: [&str; 8] = [
        "max-memory",
        "deadline",
        "max-connections",
        "linger",
        "first-byte-timeout",
        "idle-timeout",
        "write-timeout",
        "connection-timeout",
    ];

    /// Sets the limit `name` to a value, which is written as for its option.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), LimitError> {
        let time = |parsed: Result<Duration, TimeError>| {
            let wrong = |error: TimeError| LimitError::Value(error.to_string());
            parsed.map(Some).map_err(wrong)
        };
        match name {
            "max-memory" => {
                let size = parse_memory(value).map_err(LimitError::Value)?;
                self.max_memory_bytes = Some(size.as_u64());
            }
            "deadline" => self.deadline = time(parse_time_over_zero(value))?,
            "max-connections" => {
                let count = parse_connections(value).map_err(LimitError::Value)?;
                self.max_connections = Some(count);
            }
            "linger" => self.close_timeout = time(parse_time(value))?,
            "first-byte-timeout" => self.first_byte_timeout = time(parse_time_over_zero(value))?,
            "idle-timeout" => self.idle_timeout = time(parse_time_over_zero(value))?,
            "write-timeout" => self.write_timeout = time(parse_time_over_zero(value))?,
            "connection-timeout" => self.connection_timeout = time(parse_time_over_zero(value))?,
            _ => return Err(LimitError::Unknown),
        }
        Ok(())
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether limits change that all connections of the service have, whatever their
    /// version.
    pub(crate) fn change_service(&self) -> bool {
        let of_instances = Self {
            max_memory_bytes: self.max_memory_bytes,
            deadline: self.deadline,
            ..Self::default()
        };
        *self != of_instances
    }

    /// Changes the limits.
    pub(crate) fn apply(&self, limits: &mut Limits) {
        fn set<T: Copy>(limit: &mut T, value: Option<T>) {
            *limit = value.unwrap_or(*limit);
        }
        set(&mut limits.max_memory_bytes, self.max_memory_bytes);
        set(&mut limits.deadline, self.deadline);
        set(&mut limits.max_connections, self.max_connections);
        set(&mut limits.close_timeout, self.close_timeout);
        limits.first_byte_timeout = self.first_byte_timeout.or(limits.first_byte_timeout);
        limits.idle_timeout = self.idle_timeout.or(limits.idle_timeout);
        limits.write_timeout = self.write_timeout.or(limits.write_timeout);
        limits.connection_timeout = self.connection_timeout.or(limits.connection_timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_change_by_the_names_of_their_options() {
        let mut changes = LimitChanges::default();
        assert!(changes.is_empty() && !changes.change_service());
        for (name, value) in [("max-memory", "1MiB"), ("deadline", "20ms")] {
            changes.set(name, value).unwrap();
        }
        assert!(!changes.is_empty() && !changes.change_service());
        let mut limits = Limits {
            idle_timeout: Some(Duration::from_secs(7)),
            ..Limits::default()
        };
        changes.apply(&mut limits);
        let expected = Limits {
            max_memory_bytes: 1 << 20,
            deadline: Duration::from_millis(20),
            idle_timeout: Some(Duration::from_secs(7)),
            ..Limits::default()
        };
        assert_eq!(limits, expected);
        changes.set("max-connections", "2").unwrap();
        assert!(changes.change_service());
        changes.apply(&mut limits);
        assert_eq!(limits.max_connections, 2);
    }

    #[test]
    fn every_limit_has_its_parser() {
        let second = Duration::from_secs(1);
        for name in LimitChanges::NAMES {
            let mut changes = LimitChanges::default();
            let value = match name {
                "max-memory" => "1GiB",
                "max-connections" => "1000000",
                _ => "1s",
            };
            changes.set(name, value).unwrap();
            let mut limits = Limits {
                deadline: 2 * second,
                ..Limits::default()
            };
            let before = limits.clone();
            changes.apply(&mut limits);
            assert_ne!(limits, before, "{name}");
            assert!(changes.set(name, "soon").is_err(), "{name}");
        }
        let mut changes = LimitChanges::default();
        assert!(changes.set("max-connections", "0").is_err());
        assert!(changes.set("idle-timeout", "0s").is_err());
        let error = changes.set("backlog", "5").unwrap_err().to_string();
        assert!(error.contains("max-memory"), "{error}");
        assert!(changes.is_empty());
    }

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
        assert_eq!(limits.loops, 1);
        assert_eq!(limits.backlog, 1024);
        assert_eq!(limits.reuse, 1);
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
