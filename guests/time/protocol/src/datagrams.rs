//! The time family over datagrams: the time of day in answer to anything (RFC 867).

use crate::ctime;
use sockserve_handler::session::{DatagramProtocol, Peer};
use std::str::FromStr;

/// The option `MODE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatagramMode {
    /// Answers anything with the time.
    #[default]
    Daytime,
    /// Does that too, and logs the text of the datagram.
    Request,
    /// Answers anything with the time as a number (RFC 868).
    Time,
}

/// Seconds since 1900 as RFC 868 has them, the most significant byte first. They begin
/// again in 2036.
pub fn seconds_since_1900(unix_seconds: u64) -> [u8; 4] {
    const FROM_1900: u64 = 2_208_988_800;
    let [_, _, _, _, seconds @ ..] = unix_seconds.wrapping_add(FROM_1900).to_be_bytes();
    seconds
}

impl FromStr for DatagramMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "daytime" => Ok(Self::Daytime),
            "request" => Ok(Self::Request),
            "time" => Ok(Self::Time),
            _ => Err("daytime, request or time".to_owned()),
        }
    }
}

/// The family with its options set.
#[derive(Clone, Copy, Debug)]
pub struct DatagramTime {
    mode: DatagramMode,
    /// Seconds since 1970 in UTC, the only zone a guest has.
    clock: fn() -> u64,
}

/// How many bytes a datagram may have, as in the texts.
const MOST: u32 = 1024;

impl DatagramTime {
    /// Sets the options.
    pub fn new(mode: DatagramMode, clock: fn() -> u64) -> Self {
        Self { mode, clock }
    }
}

impl DatagramProtocol for DatagramTime {
    fn max_bytes(&self) -> u32 {
        MOST
    }

    fn answer(
        &mut self,
        _: impl FnOnce() -> Peer,
        data: Vec<u8>,
        log: &mut Vec<String>,
    ) -> Option<Vec<u8>> {
        if self.mode == DatagramMode::Request {
            log.push(String::from_utf8_lossy(&data).trim_end().to_owned());
        }
        let now = (self.clock)();
        Some(match self.mode {
            DatagramMode::Time => seconds_since_1900(now).to_vec(),
            DatagramMode::Daytime | DatagramMode::Request => {
                format!("{}\r\n", ctime(now)).into_bytes()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |mode: &str, expected: &[u8], logged: &[&str]| {
            let mut time = DatagramTime::new(mode.parse().unwrap(), || 0);
            let mut log = Vec::new();
            let peer = || ([127, 0, 0, 1], 5000).into();
            let answer = time.answer(peer, b"now?\n".to_vec(), &mut log);
            assert_eq!(answer.as_deref(), Some(expected));
            assert_eq!(log, logged);
        };
        let epoch = b"Thu Jan  1 00:00:00 1970\r\n";
        check("daytime", epoch, &[]);
        check("request", epoch, &["now?"]);
        check("time", &[0x83, 0xaa, 0x7e, 0x80], &[]);
        assert!("line".parse::<DatagramMode>().is_err());
    }
}
