//! Cuts what a member sends into lines.

/// A line longer than this, with its line ending, is sent in pieces.
const LINE_LIMIT: usize = 1024;

/// The unfinished line of one member.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    /// Whether a piece of the line under way was sent already.
    cut: bool,
}

impl Lines {
    /// Continues the unfinished line of another room, if it is a possible one.
    pub(crate) fn resume(partial: Vec<u8>, cut: bool) -> Option<Self> {
        let possible = partial.len() < LINE_LIMIT && !partial.contains(&b'\n');
        possible.then_some(Self { partial, cut })
    }

    /// The unfinished line, and whether a piece of it was sent already.
    pub(crate) fn into_parts(self) -> (Vec<u8>, bool) {
        (self.partial, self.cut)
    }

    /// Takes a chunk and returns the lines that it completes. Each has the line ending
    /// that it came with.
    ///
    /// As soon as 1024 bytes have come without a line ending, they become a line with
    /// `\r\n` added. So a receiver that reads by line never sees two senders on one
    /// line. Such a piece may end within a character. A line ending directly after a
    /// piece is dropped, because the line has ended already.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        for part in chunk.split_inclusive(|&byte| byte == b'\n') {
            let mut rest = part;
            while !rest.is_empty() {
                let room = LINE_LIMIT - self.partial.len();
                let (piece, after) = rest.split_at_checked(room).unwrap_or((rest, &[]));
                self.partial.extend_from_slice(piece);
                rest = after;
                if self.partial.ends_with(b"\n") {
                    lines.extend(self.finish());
                    self.cut = false;
                } else if self.partial.len() == LINE_LIMIT {
                    lines.extend(self.finish());
                    self.cut = true;
                }
            }
        }
        lines
    }

    /// Takes the unfinished line of a member that has gone, with `\r\n` added.
    pub(crate) fn end(&mut self) -> Option<Vec<u8>> {
        if self.partial.is_empty() {
            return None;
        }
        self.finish()
    }

    fn finish(&mut self) -> Option<Vec<u8>> {
        let mut line = std::mem::take(&mut self.partial);
        if !line.ends_with(b"\n") {
            // A `\r` at the end is the first half of a line ending.
            let ending: &[u8] = if line.ends_with(b"\r") {
                b"\n"
            } else {
                b"\r\n"
            };
            line.extend_from_slice(ending);
        }
        let blank = line == b"\n" || line == b"\r\n";
        (!(self.cut && blank)).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same lines come out for any size of chunks.
    #[track_caller]
    fn check(input: &[u8], expected: &[&[u8]]) {
        for size in [1, 2, 3, 1023, 1024, 1025, 5000] {
            let mut lines = Lines::default();
            let mut out: Vec<Vec<u8>> = Vec::new();
            for chunk in input.chunks(size) {
                out.extend(lines.feed(chunk));
                assert!(lines.partial.len() < LINE_LIMIT);
            }
            out.extend(lines.end());
            assert_eq!(out, expected, "chunks of {size}");
        }
    }

    #[test]
    fn lines() {
        let long = |count, ending: &str| [&vec![b'x'; count], ending.as_bytes()].concat();
        check(b"", &[]);
        check(b"a\n", &[b"a\n"]);
        check(b"a\r\nb\n", &[b"a\r\n", b"b\n"]);
        check(b"\n\r\n", &[b"\n", b"\r\n"]);
        check(b"a", &[b"a\r\n"]);
        check(b"a\r", &[b"a\r\n"]);
        check(b"a\rb\n", &[b"a\rb\n"]);
        check(&long(1023, "\n"), &[&long(1023, "\n")]);
        check(&long(1022, "\r\n"), &[&long(1022, "\r\n")]);
        // The line ending falls on the limit.
        check(&long(1024, "\n"), &[&long(1024, "\r\n")]);
        check(&long(1023, "\r\n"), &[&long(1023, "\r\n")]);
        check(&long(1024, "\r\n"), &[&long(1024, "\r\n")]);
        check(&long(1024, "\r"), &[&long(1024, "\r\n")]);
        check(&long(1024, "\n\n"), &[&long(1024, "\r\n"), b"\n"]);
        // Longer lines.
        check(&long(1025, "\n"), &[&long(1024, "\r\n"), b"x\n"]);
        let piece = long(1024, "\r\n");
        check(&long(2048, ""), &[&piece, &piece]);
        check(&long(2050, "\nb\n"), &[&piece, &piece, b"xx\n", b"b\n"]);
    }

    #[test]
    fn a_long_line_is_sent_as_it_comes() {
        let mut lines = Lines::default();
        assert!(lines.feed(&[b'x'; 1023]).is_empty());
        assert_eq!(lines.feed(b"x").len(), 1);
        assert!(lines.feed(b"\n").is_empty());
        assert_eq!(lines.feed(b"\n"), [b"\n"]);
    }
}
