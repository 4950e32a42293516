//! The time family over datagrams: the time of day in answer to anything (RFC 867).

use crate::ctime;
use protocol::{DatagramProtocol, Peer};
use std::str::FromStr;

/// The option `MODE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatagramMode {
    /// Answers anything with the time.
    #[default]
    Daytime,
    /// Does that too, and logs the text of the datagram.
    Request,
}

impl FromStr for DatagramMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "daytime" => Ok(Self::Daytime),
            "request" => Ok(Self::Request),
            _ => Err("daytime or request".to_owned()),
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
        Some(format!("{}\r\n", ctime((self.clock)())).into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |mode: &str, logged: &[&str]| {
            let mut time = DatagramTime::new(mode.parse().unwrap(), || 0);
            let mut log = Vec::new();
            let peer = || ([127, 0, 0, 1], 5000).into();
            let answer = time.answer(peer, b"now?\n".to_vec(), &mut log);
            assert_eq!(
                answer.as_deref(),
                Some(&b"Thu Jan  1 00:00:00 1970\r\n"[..])
            );
            assert_eq!(log, logged);
        };
        check("daytime", &[]);
        check("request", &["now?"]);
        assert!("line".parse::<DatagramMode>().is_err());
    }
}
