//! Cuts input into lines.

/// A line longer than this, without its line ending, is given in pieces.
const LINE_LIMIT: usize = 1024;

/// Gathers lines from input that comes in chunks.
#[derive(Debug, Default)]
pub struct Lines {
    /// At most [`LINE_LIMIT`] bytes, and a `\r` that may become a line ending.
    unfinished: Vec<u8>,
}

impl Lines {
    /// Takes a chunk, and calls `give` for each line that it completes. The line
    /// still has the line ending that it came with.
    ///
    /// A line that is longer than 1024 bytes is given in pieces of 1024 bytes, as soon
    /// as it is known to be longer. Only the last piece has the line ending.
    pub fn feed(&mut self, chunk: &[u8], mut give: impl FnMut(&[u8])) {
        for part in chunk.split_inclusive(|&byte| byte == b'\n') {
            let joined;
            let mut rest = part;
            if !self.unfinished.is_empty() {
                joined = [&std::mem::take(&mut self.unfinished), part].concat();
                rest = &joined;
            }
            while let Some((piece, after)) = rest.split_at_checked(LINE_LIMIT)
                && !matches!(after, b"" | b"\r" | b"\n" | b"\r\n")
            {
                give(piece);
                rest = after;
            }
            if rest.ends_with(b"\n") {
                give(rest);
            } else if !rest.is_empty() {
                self.unfinished = rest.to_vec();
            }
        }
    }

    /// Takes the beginning of a line that is not complete.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unfinished)
    }
}

/// Splits a line into its text and its line ending, `\n`, `\r\n` or none.
pub fn split_ending(line: &[u8]) -> (&[u8], &[u8]) {
    let text = line.strip_suffix(b"\n").unwrap_or(line);
    let text = match text.strip_suffix(b"\r") {
        Some(text) if line.ends_with(b"\n") => text,
        _ => text,
    };
    (text, line.get(text.len()..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same lines come out for any size of chunks, and the same unfinished rest.
    #[track_caller]
    fn check(input: &[u8], expected: &[&[u8]], unfinished: &[u8]) {
        for size in [1, 2, 3, 1023, 1024, 1025, 5000] {
            let mut lines = Lines::default();
            let mut out: Vec<Vec<u8>> = Vec::new();
            for chunk in input.chunks(size) {
                lines.feed(chunk, |line| out.push(line.to_vec()));
                assert!(lines.unfinished.len() <= LINE_LIMIT + 1);
            }
            assert_eq!(out, expected, "chunks of {size}");
            assert_eq!(lines.take(), unfinished, "chunks of {size}");
        }
    }

    #[test]
    fn lines() {
        let long = |count, ending: &str| [&vec![b'x'; count], ending.as_bytes()].concat();
        check(b"", &[], b"");
        check(b"a\n", &[b"a\n"], b"");
        check(b"a\r\nb\nc", &[b"a\r\n", b"b\n"], b"c");
        check(b"\n\r\n\r", &[b"\n", b"\r\n"], b"\r");
        check(b"a\rb\n", &[b"a\rb\n"], b"");
        let whole = long(1024, "");
        check(&whole, &[], &whole);
        for ending in ["\n", "\r\n"] {
            let line = long(1024, ending);
            check(&line, &[&line], b"");
            check(&long(2048, ending), &[&whole, &line], b"");
            let end = long(1, ending);
            check(&long(1025, ending), &[&whole, &end], b"");
        }
        check(&long(1025, ""), &[&whole], b"x");
        check(&long(1024, "\r"), &[], &long(1024, "\r"));
        check(&long(1024, "\rx\n"), &[&whole, b"\rx\n"], b"");
        check(&long(1024, "\r\r\n"), &[&whole, b"\r\r\n"], b"");
    }

    #[test]
    fn endings() {
        #[track_caller]
        fn check(line: &[u8], text: &[u8], ending: &[u8]) {
            assert_eq!(split_ending(line), (text, ending), "{line:?}");
        }
        check(b"", b"", b"");
        check(b"a", b"a", b"");
        check(b"a\n", b"a", b"\n");
        check(b"a\r\n", b"a", b"\r\n");
        check(b"\r\n", b"", b"\r\n");
        check(b"a\r", b"a\r", b"");
        check(b"a\r\r\n", b"a\r", b"\r\n");
        check(b"a\n\n", b"a\n", b"\n");
    }
}
