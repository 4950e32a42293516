//! What ends a request in [`Mode::Terminator`](crate::Mode::Terminator), and how it is
//! found.

use serde::{Deserialize, Serialize};
use sockserve_handler::options::unescape;
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// The option `TERMINATOR`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Terminator {
    /// These bytes, at least one.
    Bytes(Vec<u8>),
    /// The request ends after so many bytes.
    Count(NonZeroU64),
    /// The request never ends.
    Never,
}

impl Default for Terminator {
    fn default() -> Self {
        Self::Bytes(b"\r\n\r\n".to_vec())
    }
}

impl FromStr for Terminator {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Never);
        }
        if let Some(count) = text.strip_prefix("count:") {
            return count
                .parse()
                .map(Self::Count)
                .map_err(|_| "a number of bytes of at least 1 after count:".to_owned());
        }
        match unescape(text)? {
            bytes if bytes.is_empty() => Err("text, count:N or none".to_owned()),
            bytes => Ok(Self::Bytes(bytes)),
        }
    }
}

/// As it is written in the option, on one line.
impl fmt::Display for Terminator {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.escape_ascii().fmt(out),
            Self::Count(count) => write!(out, "count:{count}"),
            Self::Never => out.write_str("none"),
        }
    }
}

/// How far the search for a terminator is, as it is handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// This many bytes of the terminator have come.
    Matched(usize),
    /// This many bytes are missing.
    Missing(u64),
    /// There is nothing to search for.
    Never,
    /// The terminator was found.
    Found,
}

/// Finds a terminator in input that comes in chunks.
///
/// It keeps no input. The input is not needed, and a peer that never ends its request
/// must not fill the memory.
#[derive(Debug)]
pub(crate) enum Matcher {
    Bytes(Pattern),
    Count {
        missing: u64,
    },
    Never,
    /// The terminator was found. Input after it is ignored.
    Found,
}

impl Matcher {
    pub(crate) fn new(terminator: &Terminator) -> Self {
        match terminator {
            Terminator::Bytes(bytes) => Self::Bytes(Pattern::new(bytes.clone())),
            Terminator::Count(count) => Self::Count {
                missing: count.get(),
            },
            Terminator::Never => Self::Never,
        }
    }

    /// Continues a search for `terminator`. `None` if the progress does not fit to it.
    pub(crate) fn resume(terminator: &Terminator, progress: Progress) -> Option<Self> {
        let mut matcher = Self::new(terminator);
        match (&mut matcher, progress) {
            (Self::Bytes(pattern), Progress::Matched(matched)) if matched < pattern.bytes.len() => {
                pattern.matched = matched;
            }
            (Self::Count { missing }, Progress::Missing(rest))
                if (1..=*missing).contains(&rest) =>
            {
                *missing = rest;
            }
            (Self::Never, Progress::Never) => {}
            (Self::Bytes(_) | Self::Count { .. }, Progress::Found) => {
                matcher = Self::Found;
            }
            _ => return None,
        }
        Some(matcher)
    }

    /// How far the search is.
    pub(crate) fn progress(&self) -> Progress {
        match self {
            Self::Bytes(pattern) => Progress::Matched(pattern.matched),
            Self::Count { missing } => Progress::Missing(*missing),
            Self::Never => Progress::Never,
            Self::Found => Progress::Found,
        }
    }

    /// Takes the next chunk. Returns true once, when the request ends in the chunk.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> bool {
        let found = match self {
            Self::Bytes(pattern) => chunk.iter().any(|&byte| pattern.step(byte)),
            Self::Count { missing } => {
                let length = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                *missing = missing.saturating_sub(length);
                *missing == 0
            }
            Self::Never | Self::Found => false,
        };
        if found {
            *self = Self::Found;
        }
        found
    }
}

/// A search by Knuth, Morris and Pratt. It looks at each byte once, and needs no byte of
/// an earlier chunk.
#[derive(Debug)]
pub(crate) struct Pattern {
    bytes: Vec<u8>,
    /// For each length of a match, the length of the longest shorter match that
    /// ends at the same byte.
    shorter: Vec<usize>,
    matched: usize,
}

impl Pattern {
    fn new(bytes: Vec<u8>) -> Self {
        let mut pattern = Self {
            shorter: vec![0, 0],
            matched: 0,
            bytes,
        };
        // Searches the pattern in itself, from its second byte on.
        for index in 1..pattern.bytes.len() {
            if let Some(&byte) = pattern.bytes.get(index) {
                pattern.step(byte);
            }
            pattern.shorter.push(pattern.matched);
        }
        pattern.matched = 0;
        pattern
    }

    /// Takes the next byte. Returns whether the pattern ends with it.
    fn step(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.bytes.get(self.matched) != Some(&byte) {
            self.matched = self.shorter.get(self.matched).copied().unwrap_or(0);
        }
        if self.bytes.get(self.matched) == Some(&byte) {
            self.matched += 1;
        }
        self.matched == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminators() {
        #[track_caller]
        fn check(text: &str, expected: Option<Terminator>) {
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
        let bytes = |bytes: &[u8]| Some(Terminator::Bytes(bytes.to_vec()));
        assert_eq!(Some(Terminator::default()), bytes(b"\r\n\r\n"));
        check(r"\r\n\r\n", bytes(b"\r\n\r\n"));
        check("END", bytes(b"END"));
        check(r"\x6eone", bytes(b"none"));
        check("none", Some(Terminator::Never));
        check("count:12", NonZeroU64::new(12).map(Terminator::Count));
        check("count:0", None);
        check("count:", None);
        check("count:-1", None);
        check("", None);
        check(r"\q", None);
    }

    /// However `input` is cut into three chunks, the terminator is found, or is not.
    #[track_caller]
    fn check(terminator: &str, input: &[u8], expected: bool) {
        let terminator: Terminator = terminator.parse().unwrap();
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let mut matcher = Matcher::new(&terminator);
                let found = [&input[..first], &input[first..second], &input[second..]]
                    .map(|chunk| matcher.feed(chunk));
                let count = found.iter().filter(|found| **found).count();
                assert_eq!(count, usize::from(expected), "{input:?} {first} {second}");
            }
        }
    }

    #[test]
    fn bytes_are_found_over_any_chunks() {
        check(r"\r\n\r\n", b"", false);
        check(r"\r\n\r\n", b"GET /\r\n", false);
        check(r"\r\n\r\n", b"GET /\r\n\r\n", true);
        check(r"\r\n\r\n", b"\r\n\r\r\n\r\n", true);
        check(r"\r\n\r\n", b"a\r\n\rb\n\r\n", false);
        check(r"\r\n\r\n", b"one\r\n\r\ntwo\r\n\r\n", true);
        check("aab", b"aaaab", true);
        check("ababc", b"abababc", true);
        check("abcabd", b"abcabcabd", true);
        check("aabaaab", b"aabaabaaab", true);
        check("x", b"yyyx", true);
    }

    #[test]
    fn a_search_goes_on_where_it_can_be() {
        #[track_caller]
        fn check(terminator: &str, progress: Progress, possible: bool) {
            let terminator = terminator.parse().unwrap();
            let resumed = Matcher::resume(&terminator, progress);
            let expected = possible.then_some(progress);
            assert_eq!(resumed.map(|matcher| matcher.progress()), expected);
        }
        check("END", Progress::Matched(0), true);
        check("END", Progress::Matched(2), true);
        check("END", Progress::Matched(3), false);
        check("END", Progress::Matched(usize::MAX), false);
        check("END", Progress::Found, true);
        check("END", Progress::Missing(1), false);
        check("END", Progress::Never, false);
        check("count:5", Progress::Missing(5), true);
        check("count:5", Progress::Missing(6), false);
        check("count:5", Progress::Missing(0), false);
        check("count:5", Progress::Found, true);
        check("none", Progress::Never, true);
        check("none", Progress::Found, false);
    }

    #[test]
    fn terminators_are_shown_as_they_are_set() {
        for text in [r"\r\n\r\n", "END", "count:12", "none", r"\x00\xff\t"] {
            let terminator: Terminator = text.parse().unwrap();
            assert_eq!(terminator.to_string(), text);
        }
    }

    #[test]
    fn counts_are_found_over_any_chunks() {
        check("count:5", b"1234", false);
        check("count:5", b"12345", true);
        check("count:5", b"1234567", true);
        check("none", b"\r\n\r\n", false);
    }
}
