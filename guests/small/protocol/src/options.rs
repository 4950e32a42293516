//! The options `SERVICE` and `QUOTE`.

use serde::{Deserialize, Serialize};
use sockserve_handler::options::unescape;
use std::fmt;
use std::str::FromStr;

/// The most bytes of a quote, as RFC 865 says.
const QUOTE_LIMIT: usize = 512;

/// The option `SERVICE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Service {
    /// RFC 863: drops what comes, and answers nothing.
    #[default]
    Discard,
    /// RFC 864: writes a pattern of characters without end.
    Chargen,
    /// RFC 868: answers the time as a number of 4 bytes.
    Time,
    /// RFC 865: answers the quote of the day.
    Qotd,
    /// Drops what comes, and logs it.
    Log,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "discard" => Ok(Self::Discard),
            "chargen" => Ok(Self::Chargen),
            "time" => Ok(Self::Time),
            "qotd" => Ok(Self::Qotd),
            "log" => Ok(Self::Log),
            _ => Err("discard, chargen, time, qotd or log".to_owned()),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Discard => "discard",
            Self::Chargen => "chargen",
            Self::Time => "time",
            Self::Qotd => "qotd",
            Self::Log => "log",
        })
    }
}

/// The option `QUOTE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote(Vec<u8>);

impl Quote {
    /// The bytes of the quote.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Default for Quote {
    fn default() -> Self {
        let text = "Brevity is the soul of wit.\r\n\t-- William Shakespeare, Hamlet\r\n";
        Self(text.into())
    }
}

impl FromStr for Quote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match unescape(text)? {
            bytes if bytes.len() > QUOTE_LIMIT => Err(format!(
                "at most {QUOTE_LIMIT} bytes, and not {}",
                bytes.len()
            )),
            bytes => Ok(Self(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services() {
        #[track_caller]
        fn check(text: &str, expected: Option<Service>) {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
            if let Some(service) = expected {
                assert_eq!(service.to_string(), text);
            }
        }
        assert_eq!(Service::default(), Service::Discard);
        check("discard", Some(Service::Discard));
        check("chargen", Some(Service::Chargen));
        check("time", Some(Service::Time));
        check("qotd", Some(Service::Qotd));
        check("log", Some(Service::Log));
        check("", None);
        check("echo", None);
    }

    #[test]
    fn quotes() {
        #[track_caller]
        fn check(text: &str, expected: Result<&[u8], &str>) {
            let quote = text.parse::<Quote>();
            let quote = quote.as_ref().map(Quote::bytes).map_err(String::as_str);
            assert_eq!(quote, expected, "{text:?}");
        }
        let default = Quote::default();
        assert!(default.bytes().len() <= QUOTE_LIMIT && default.bytes().ends_with(b"\r\n"));
        check("", Ok(b""));
        check(r"Know thyself.\r\n", Ok(b"Know thyself.\r\n"));
        let longest = "x".repeat(512);
        check(&longest, Ok(longest.as_bytes()));
        // Counted without the escapes.
        check(&r"\x41".repeat(512), Ok(&[b'A'; 512]));
        check(&"x".repeat(513), Err("at most 512 bytes, and not 513"));
        let escapes = r"only the escapes \r, \n, \t, \0, \\ and \xHH";
        check(r"\q", Err(escapes));
    }
}
