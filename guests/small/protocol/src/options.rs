//! The options of the family.

use protocol::unescape;
use std::fmt;
use std::str::FromStr;

/// The option `SERVICE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// RFC 863: drops everything.
    #[default]
    Discard,
    /// RFC 864: writes characters without end; a line per datagram.
    Chargen,
    /// RFC 868: the time as a number of 32 bits.
    Time,
    /// RFC 865: a quotation.
    Qotd,
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "discard" => Ok(Self::Discard),
            "chargen" => Ok(Self::Chargen),
            "time" => Ok(Self::Time),
            "qotd" => Ok(Self::Qotd),
            _ => Err("discard, chargen, time or qotd".to_owned()),
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discard => "discard",
            Self::Chargen => "chargen",
            Self::Time => "time",
            Self::Qotd => "qotd",
        })
    }
}

/// The option `QUOTE`: what `qotd` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote(Vec<u8>);

/// The longest quotation, in bytes. RFC 865 says that it should be less than 512
/// characters.
const LONGEST: usize = 511;

/// What is said without the option.
const DEFAULT: &str = "A little learning is a dangerous thing. (Alexander Pope)\r\n";

impl Quote {
    /// What is said.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Default for Quote {
    fn default() -> Self {
        Self(DEFAULT.as_bytes().to_vec())
    }
}

impl FromStr for Quote {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = unescape(text)?;
        if (1..=LONGEST).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(format!("1 to {LONGEST} bytes"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_names() {
        for name in ["discard", "chargen", "time", "qotd"] {
            assert_eq!(name.parse::<Service>().unwrap().to_string(), name);
        }
        assert!("echo".parse::<Service>().is_err());
        assert_eq!(Service::default(), Service::Discard);
    }

    #[test]
    fn a_quote_is_not_too_long() {
        let bytes = |text: &str| text.parse::<Quote>().map(|quote| quote.bytes().to_vec());
        assert_eq!(bytes(r"a\r\n"), Ok(b"a\r\n".to_vec()));
        assert_eq!(bytes(&"x".repeat(511)).unwrap().len(), 511);
        assert!(bytes(&"x".repeat(512)).is_err());
        assert!(bytes("").is_err());
        assert!(bytes(r"\q").is_err());
    }
}
