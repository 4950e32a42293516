//! The output queue of [`Mode::Terminator`](crate::Mode::Terminator), like that of
//! Python's `asynchat`.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// The most bytes of a producer that are written at once.
const PIECE: usize = 512;

/// A first-in first-out queue of producers. The producer at the front gives its data in
/// pieces. A mark in the queue says to close when the queue has come to it.
#[derive(Debug, Default)]
pub(crate) struct Fifo {
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
enum Entry {
    Producer { data: Vec<u8>, drained: usize },
    Close,
}

/// One entry, as it is handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Saved {
    /// The data that a producer still has.
    Producer(Vec<u8>),
    /// The mark.
    Close,
}

/// What comes next out of a [`Fifo`].
#[derive(Debug, PartialEq)]
pub(crate) enum Refill<'a> {
    /// The next piece of the producer at the front.
    Bytes(&'a [u8]),
    /// The queue is empty.
    Empty,
    /// Everything before the mark was given.
    Close,
}

impl Fifo {
    /// Adds a producer of `data`.
    pub(crate) fn push(&mut self, data: Vec<u8>) {
        self.entries.push_back(Entry::Producer { data, drained: 0 });
    }

    /// Adds the mark.
    pub(crate) fn close_when_done(&mut self) {
        self.entries.push_back(Entry::Close);
    }

    /// Takes all that is left, for another queue.
    pub(crate) fn save(&mut self) -> Vec<Saved> {
        let saved = |entry| match entry {
            Entry::Producer { mut data, drained } => {
                data.drain(..drained);
                Saved::Producer(data)
            }
            Entry::Close => Saved::Close,
        };
        std::mem::take(&mut self.entries)
            .into_iter()
            .map(saved)
            .collect()
    }

    /// Continues with what another queue has left.
    pub(crate) fn restore(saved: Vec<Saved>) -> Self {
        let mut fifo = Self::default();
        for entry in saved {
            match entry {
                Saved::Producer(data) => fifo.push(data),
                Saved::Close => fifo.close_when_done(),
            }
        }
        fifo
    }

    /// Takes the next piece.
    pub(crate) fn refill(&mut self) -> Refill<'_> {
        // A producer is removed when it has no more data, and not with its last piece.
        while let Some(Entry::Producer { data, drained }) = self.entries.front()
            && *drained == data.len()
        {
            self.entries.pop_front();
        }
        match self.entries.front_mut() {
            Some(Entry::Producer { data, drained }) => {
                let start = *drained;
                *drained = data.len().min(start + PIECE);
                Refill::Bytes(data.get(start..*drained).unwrap_or_default())
            }
            Some(Entry::Close) => Refill::Close,
            None => Refill::Empty,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_are_drained_in_order_and_in_pieces() {
        let mut fifo = Fifo::default();
        assert_eq!(fifo.refill(), Refill::Empty);
        fifo.push(vec![b'a'; 1200]);
        fifo.push(Vec::new());
        fifo.push(vec![b'b'; 512]);
        fifo.close_when_done();
        for expected in [
            [b'a'; 512].as_slice(),
            &[b'a'; 512],
            &[b'a'; 176],
            &[b'b'; 512],
        ] {
            assert_eq!(fifo.refill(), Refill::Bytes(expected));
        }
        assert_eq!(fifo.refill(), Refill::Close);
        assert_eq!(fifo.refill(), Refill::Close);
    }

    #[test]
    fn what_is_left_goes_on_in_another_queue() {
        let mut fifo = Fifo::default();
        fifo.push(vec![b'a'; 1200]);
        fifo.push(b"b".to_vec());
        fifo.close_when_done();
        assert_eq!(fifo.refill(), Refill::Bytes(&[b'a'; 512]));
        let saved = fifo.save();
        assert_eq!(
            saved,
            [
                Saved::Producer(vec![b'a'; 688]),
                Saved::Producer(b"b".to_vec()),
                Saved::Close
            ]
        );
        assert_eq!(fifo.refill(), Refill::Empty);
        let mut fifo = Fifo::restore(saved);
        for expected in [[b'a'; 512].as_slice(), &[b'a'; 176], b"b"] {
            assert_eq!(fifo.refill(), Refill::Bytes(expected));
        }
        assert_eq!(fifo.refill(), Refill::Close);
    }
}
