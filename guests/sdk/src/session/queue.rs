//! A first-in first-out queue of bytes.

/// How much memory an empty queue may keep, in bytes. An idle connection must not
/// keep the memory of the largest answer that it ever had.
const KEPT_WHEN_EMPTY: usize = 512;

/// Bytes that wait to be written, in order.
///
/// This is a `Vec` with a start and not a `VecDeque`, so that the bytes at the front
/// are always one slice, which one write can take.
#[derive(Debug, Default)]
pub struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    /// Adds bytes at the end.
    pub fn push(&mut self, bytes: &[u8]) {
        // Moves fewer bytes than were consumed.
        if self.start > self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes at the front, at most `limit` of them.
    pub fn front(&self, limit: usize) -> &[u8] {
        let rest = self.bytes.get(self.start..).unwrap_or_default();
        rest.get(..limit).unwrap_or(rest)
    }

    /// Removes `count` bytes from the front.
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.start = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT_WHEN_EMPTY);
        }
    }

    /// Takes all bytes.
    pub fn take(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.drain(..std::mem::take(&mut self.start));
        bytes
    }

    /// How many bytes are waiting.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether no bytes are waiting.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_whatever_the_pieces() {
        for piece in 1..=10 {
            let mut queue = Queue::default();
            let mut out = Vec::new();
            for n in 0..100u8 {
                queue.push(&[n; 3]);
                let front = queue.front(piece).to_vec();
                queue.consume(front.len());
                out.extend(front);
            }
            out.extend(queue.take());
            let expected: Vec<u8> = (0..100).flat_map(|n| [n; 3]).collect();
            assert_eq!(out, expected, "pieces of {piece}");
            assert!(queue.is_empty());
        }
    }

    #[test]
    fn an_empty_queue_keeps_little_memory() {
        let mut queue = Queue::default();
        queue.push(&[0; 1 << 20]);
        queue.consume(1 << 20);
        assert!(queue.bytes.capacity() <= KEPT_WHEN_EMPTY);
    }

    #[test]
    fn a_queue_that_never_runs_empty_does_not_grow() {
        let mut queue = Queue::default();
        queue.push(&[0; 100]);
        for _ in 0..10_000 {
            queue.push(&[0; 100]);
            queue.consume(100);
        }
        assert_eq!(queue.len(), 100);
        assert!(queue.bytes.capacity() < 2000, "{}", queue.bytes.capacity());
    }

    #[test]
    fn consuming_too_much_empties() {
        let mut queue = Queue::default();
        queue.push(b"abc");
        queue.consume(10);
        assert!(queue.is_empty());
        queue.push(b"d");
        assert_eq!(queue.front(10), b"d");
    }
}
