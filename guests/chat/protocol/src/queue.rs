//! The queue of one member.

use std::collections::VecDeque;
use std::rc::Rc;

/// For how many lines an empty queue may keep memory.
const KEPT_WHEN_EMPTY: usize = 16;

/// Lines that wait to be written, in order.
///
/// A line is in memory only once, however many members it waits for. So a room of many
/// members takes little more memory than a room of one.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    lines: VecDeque<Rc<[u8]>>,
    /// How many bytes of the first line were consumed.
    gone: usize,
    len: usize,
}

impl Queue {
    /// Adds a line at the end.
    pub(crate) fn push(&mut self, line: Rc<[u8]>) {
        self.len += line.len();
        self.lines.push_back(line);
    }

    /// The bytes at the front, at most `limit` of them.
    pub(crate) fn front(&self, limit: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(limit.min(self.len));
        let mut gone = self.gone;
        for line in &self.lines {
            let room = limit - bytes.len();
            if room == 0 {
                break;
            }
            let rest = line.get(gone..).unwrap_or_default();
            bytes.extend_from_slice(rest.get(..room).unwrap_or(rest));
            gone = 0;
        }
        bytes
    }

    /// Removes `count` bytes from the front, or all if there are fewer. Returns how many.
    pub(crate) fn consume(&mut self, count: usize) -> usize {
        let count = count.min(self.len);
        self.len -= count;
        self.gone += count;
        while let Some(line) = self.lines.pop_front_if(|line| line.len() <= self.gone) {
            self.gone -= line.len();
        }
        // A queue that was long must not keep its memory, even if it is never empty.
        if self.lines.capacity() / 4 > self.lines.len() {
            self.lines
                .shrink_to(KEPT_WHEN_EMPTY.max(self.lines.len() * 2));
        }
        count
    }

    /// How many bytes are waiting.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether no bytes are waiting.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
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
                queue.push([n; 3].into());
                let front = queue.front(piece);
                assert_eq!(queue.consume(front.len()), front.len());
                out.extend(front);
                assert_eq!(queue.len(), usize::from(n) * 3 + 3 - out.len());
            }
            out.extend(queue.front(usize::MAX));
            let expected: Vec<u8> = (0..100).flat_map(|n| [n; 3]).collect();
            assert_eq!(out, expected, "pieces of {piece}");
        }
    }

    #[test]
    fn no_more_is_consumed_than_there_is() {
        let mut queue = Queue::default();
        queue.push(b"abc"[..].into());
        assert_eq!(queue.consume(2), 2);
        assert_eq!(queue.consume(2), 1);
        assert_eq!(queue.consume(2), 0);
        assert!(queue.is_empty());
        assert_eq!(queue.front(5), b"");
        queue.push(b"def"[..].into());
        assert_eq!(queue.front(5), b"def");
    }

    #[test]
    fn a_line_is_shared() {
        let line: Rc<[u8]> = b"line\n"[..].into();
        let mut queues = [Queue::default(), Queue::default()];
        for queue in &mut queues {
            queue.push(line.clone());
        }
        assert_eq!(Rc::strong_count(&line), 3);
        queues[0].consume(5);
        assert_eq!(Rc::strong_count(&line), 2);
    }

    #[test]
    fn what_was_long_does_not_stay_large() {
        let mut queue = Queue::default();
        for _ in 0..10_000 {
            queue.push(b"\n"[..].into());
        }
        queue.consume(9_999);
        assert!(!queue.is_empty());
        assert!(queue.lines.capacity() <= 4 * KEPT_WHEN_EMPTY);
    }
}
