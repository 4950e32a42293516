//! The bytes that the clients send, and what they compare the answers with.

/// How many bytes there are before they begin again. It is a prime, so that blocks of a
/// stream are all different.
const PERIOD: usize = 65521;

/// Bytes that look random: what comes back with a byte lost, doubled or changed differs
/// from what is expected.
#[derive(Debug)]
pub(crate) struct Pattern {
    bytes: Vec<u8>,
}

impl Pattern {
    /// A pattern for messages of at most `longest` bytes.
    pub(crate) fn new(longest: usize) -> Self {
        let mut state: u32 = 0x9E37_79B9;
        let mut bytes = Vec::with_capacity(PERIOD + longest);
        for _ in 0..PERIOD {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            bytes.push(state.to_le_bytes()[0]);
        }
        for at in 0..longest {
            bytes.extend(bytes.get(at).copied());
        }
        Self { bytes }
    }

    /// The `length` bytes of the stream that begin at `offset`; fewer at the longest
    /// message's end.
    pub(crate) fn at(&self, offset: usize, length: usize) -> &[u8] {
        let start = offset % PERIOD;
        let end = (start + length).min(self.bytes.len());
        self.bytes.get(start..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{PERIOD, Pattern};

    #[test]
    fn the_pattern_goes_on_over_its_end() {
        let pattern = Pattern::new(100);
        let over = pattern.at(PERIOD - 10, 30);
        assert_eq!(over.len(), 30);
        assert_eq!(&over[..10], pattern.at(PERIOD - 10, 10));
        assert_eq!(&over[10..], pattern.at(0, 20));
        assert_ne!(pattern.at(1, 64), pattern.at(2, 64));
    }
}
