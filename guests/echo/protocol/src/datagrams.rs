//! The echo family over datagrams: E4 and E5 of the texts, and upper case.

use crate::strip;
use sockserve_handler::session::{DatagramProtocol, Peer};
use std::str::FromStr;

/// The option `MODE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DatagramMode {
    /// E4: every datagram goes back.
    #[default]
    Echo,
    /// E5: answers `echo:` and the datagram, logs the peer.
    Prefix,
    /// Answers the text in upper case, without white space at its ends.
    Upper,
}

impl FromStr for DatagramMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "echo" => Ok(Self::Echo),
            "prefix" => Ok(Self::Prefix),
            "upper" => Ok(Self::Upper),
            _ => Err("echo, prefix or upper".to_owned()),
        }
    }
}

/// The option `MAX_BYTES`: how many bytes a datagram may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxBytes(Option<u32>);

/// What a datagram can have at most.
const MOST: u32 = 65_535;

/// What it may have in [`DatagramMode::Prefix`], unless the option says otherwise.
const PREFIX_MOST: u32 = 256;

impl FromStr for MaxBytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(bytes @ 1..=MOST) => Ok(Self(Some(bytes))),
            _ => Err(format!("a number from 1 to {MOST}")),
        }
    }
}

/// The family with its options set.
#[derive(Clone, Copy, Debug)]
pub struct DatagramEcho {
    mode: DatagramMode,
    max_bytes: u32,
}

impl DatagramEcho {
    /// Sets the options.
    pub fn new(mode: DatagramMode, max_bytes: MaxBytes) -> Self {
        let most = match mode {
            DatagramMode::Prefix => PREFIX_MOST,
            DatagramMode::Echo | DatagramMode::Upper => MOST,
        };
        Self {
            mode,
            max_bytes: max_bytes.0.unwrap_or(most),
        }
    }
}

impl DatagramProtocol for DatagramEcho {
    fn max_bytes(&self) -> u32 {
        self.max_bytes
    }

    fn answer(
        &mut self,
        peer: impl FnOnce() -> Peer,
        data: Vec<u8>,
        log: &mut Vec<String>,
    ) -> Option<Vec<u8>> {
        Some(match self.mode {
            DatagramMode::Echo => data,
            DatagramMode::Prefix => {
                log.push(peer().to_string());
                [b"echo:", &*data].concat()
            }
            DatagramMode::Upper => strip(&data).to_ascii_uppercase(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let check = |mode: &str, data: &[u8], expected: &[u8], logged: &[&str]| {
            let mode = mode.parse().unwrap();
            let mut log = Vec::new();
            let peer = || ([127, 0, 0, 1], 5000).into();
            let mut echo = DatagramEcho::new(mode, MaxBytes::default());
            let answer = echo.answer(peer, data.to_vec(), &mut log);
            assert_eq!(
                (answer.as_deref(), log),
                (
                    Some(expected),
                    logged.iter().map(ToString::to_string).collect()
                )
            );
        };
        check("echo", b" a\0 ", b" a\0 ", &[]);
        check("echo", b"", b"", &[]);
        check("prefix", b"hello", b"echo:hello", &["127.0.0.1:5000"]);
        check("prefix", b"", b"echo:", &["127.0.0.1:5000"]);
        check("upper", b" hello\n", b"HELLO", &[]);
    }

    #[test]
    fn limits() {
        let limit = |mode, text: &str| DatagramEcho::new(mode, text.parse().unwrap()).max_bytes();
        assert_eq!(limit(DatagramMode::Echo, "100"), 100);
        assert_eq!(limit(DatagramMode::Prefix, "65535"), 65_535);
        let default = |mode| DatagramEcho::new(mode, MaxBytes::default()).max_bytes();
        assert_eq!(default(DatagramMode::Echo), 65_535);
        assert_eq!(default(DatagramMode::Prefix), 256);
        for text in ["", "0", "65536", "-1", "x"] {
            assert!(text.parse::<MaxBytes>().is_err(), "{text}");
        }
    }
}
