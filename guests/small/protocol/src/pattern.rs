//! The pattern of chargen (RFC 864): lines of 72 characters of the 95 that can be
//! printed, each line begins one character later.

/// How many characters there are, from the space to the tilde.
const CHARACTERS: u8 = 95;
/// How many are on a line, without its ending.
const WIDTH: u8 = 72;

/// A place in the pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pattern {
    /// The line that comes next; its first character is this one.
    line: u8,
}

impl Pattern {
    /// The place before a line.
    pub(crate) fn at(line: u8) -> Self {
        Self {
            line: line % CHARACTERS,
        }
    }

    /// The line that comes next.
    pub(crate) fn line(self) -> u8 {
        self.line
    }

    /// Returns the next line, with its ending.
    pub(crate) fn next_line(&mut self) -> Vec<u8> {
        let characters = (0..WIDTH).map(|at| b' ' + (self.line + at) % CHARACTERS);
        let line = characters.chain(*b"\r\n").collect();
        *self = Self::at(self.line + 1);
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_rfc_864() {
        let mut pattern = Pattern::default();
        let mut next = || String::from_utf8(pattern.next_line()).unwrap();
        let first = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefg";
        assert_eq!(next(), format!("{first}\r\n"));
        assert_eq!(next(), format!("{}h\r\n", &first[1..]));
        for _ in 2..95 {
            assert_eq!(next().len(), 74);
        }
        assert_eq!(next(), format!("{first}\r\n"));
    }
}
