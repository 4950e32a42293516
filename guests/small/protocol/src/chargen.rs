//! The pattern of chargen (RFC 864): lines of 72 of the 95 printable characters. Each
//! line begins one character after the one before.

/// How many characters a line has, without its line ending.
const WIDTH: usize = 72;

/// How many lines there are before the first one comes again: one per character.
const LINES: u8 = b'~' - b' ' + 1;

/// A place in the pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pattern {
    /// The next line, less than [`LINES`].
    line: u8,
}

impl Pattern {
    /// The number of the next line.
    pub(crate) fn place(self) -> u8 {
        self.line
    }

    /// Goes on at a place. `None` if there is no such place.
    pub(crate) fn at(line: u8) -> Option<Self> {
        (line < LINES).then_some(Self { line })
    }

    /// Returns the next line, with its line ending.
    pub(crate) fn next_line(&mut self) -> Vec<u8> {
        let start = usize::from(self.line);
        self.line = (self.line + 1) % LINES;
        let characters = (b' '..=b'~').cycle().skip(start).take(WIDTH);
        characters.chain(*b"\r\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mut pattern = Pattern::default();
        let lines: Vec<Vec<u8>> = (0..96).map(|_| pattern.next_line()).collect();
        let expected =
            br##" !"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefg"##;
        assert_eq!(lines[0], [expected.as_slice(), b"\r\n"].concat());
        let expected =
            br##"!"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\]^_`abcdefgh"##;
        assert_eq!(lines[1], [expected.as_slice(), b"\r\n"].concat());
        // The first line that has come round to the space.
        assert!(lines[24].starts_with(b"89:;") && lines[24].ends_with(b"~ \r\n"));
        assert!(lines[94].starts_with(b"~ !\"#"));
        assert_eq!(lines[95], lines[0]);
        assert!(lines.iter().all(|line| line.len() == WIDTH + 2));
    }

    #[test]
    fn places() {
        assert_eq!(Pattern::at(0), Some(Pattern::default()));
        assert_eq!(Pattern::at(94).map(Pattern::place), Some(94));
        assert_eq!(Pattern::at(95), None);
    }
}
