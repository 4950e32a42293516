//! Input that was read and is not taken yet. What is taken, is taken whole or not at all:
//! so a connection can be handed over between any two calls.

use crate::session::{Queue, split_ending};
use std::io;

/// The most bytes of a line, with its line ending, and of what is read ahead.
pub(crate) const AHEAD_LIMIT: usize = 256 * 1024;

/// Input that was read and is not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Ahead {
    pub(crate) bytes: Queue,
    /// How many bytes at the front are known to hold no line feed.
    searched: usize,
}

impl Ahead {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut ahead = Self::default();
        ahead.bytes.push(bytes);
        ahead
    }

    /// Takes bytes from the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.bytes.consume(count);
        self.searched = 0;
    }

    /// How long the first line is, with its end `delimiter`. `None` if it is not complete.
    /// An error if it is too long.
    pub(crate) fn find(&mut self, delimiter: u8) -> io::Result<Option<usize>> {
        let bytes = self.bytes.front(usize::MAX);
        let rest = bytes.get(self.searched..).unwrap_or_default();
        if let Some(place) = rest.iter().position(|&byte| byte == delimiter) {
            let place = self.searched + place + 1;
            self.searched = 0;
            return Ok(Some(place));
        }
        if bytes.len() >= AHEAD_LIMIT {
            return Err(too_long());
        }
        self.searched = bytes.len();
        Ok(None)
    }

    /// Takes so many bytes as a line, without its line ending.
    pub(crate) fn take_line(&mut self, length: usize) -> io::Result<String> {
        let (text, _) = split_ending(self.bytes.front(length));
        let line = str::from_utf8(text).map(str::to_owned);
        self.consume(length);
        line.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

/// The error for what has no end within [`AHEAD_LIMIT`].
pub(crate) fn too_long() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no end of the line within {AHEAD_LIMIT} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whatever_the_pieces() {
        for size in 1..=12 {
            let mut ahead = Ahead::default();
            let mut lines = Vec::new();
            for piece in b"one\ntwo\r\n\nhalf".chunks(size) {
                ahead.bytes.push(piece);
                while let Some(length) = ahead.find(b'\n').unwrap() {
                    lines.push(ahead.take_line(length).unwrap());
                }
            }
            assert_eq!(lines, ["one", "two", ""], "pieces of {size}");
            assert_eq!(ahead.bytes.front(usize::MAX), b"half");
        }
    }

    #[test]
    fn a_line_that_is_no_text_is_taken_all_the_same() {
        let mut ahead = Ahead::new(b"\xff\nb\n");
        let length = ahead.find(b'\n').unwrap().unwrap();
        assert!(ahead.take_line(length).is_err());
        let length = ahead.find(b'\n').unwrap().unwrap();
        assert_eq!(ahead.take_line(length).unwrap(), "b");
    }

    #[test]
    fn a_line_without_an_end_is_an_error() {
        let mut ahead = Ahead::new(&vec![b'x'; AHEAD_LIMIT - 1]);
        assert_eq!(ahead.find(b'\n').unwrap(), None);
        ahead.bytes.push(b"x");
        assert!(ahead.find(b'\n').is_err());
    }
}
