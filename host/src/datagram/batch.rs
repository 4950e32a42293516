//! The datagrams that one call of a guest receives.

use super::address::Ends;
use super::{MAX_BATCH, MAX_DATA};
use crate::socket_name::SocketName;

/// Room for a batch, and the batch that was last received into it.
///
/// The room is for the largest datagrams. The system gives memory for those parts of it
/// only that were ever written to.
pub(crate) struct Batch {
    buffers: Vec<Box<[u8]>>,
    pub(super) received: Vec<Received>,
}

/// A datagram in a buffer.
pub(super) struct Received {
    pub(super) ends: Ends,
    /// The buffer.
    pub(super) place: usize,
    pub(super) length: usize,
}

/// A datagram that was received.
#[derive(Clone, Copy)]
pub(crate) struct Datagram<'a> {
    pub(crate) ends: &'a Ends,
    pub(crate) data: &'a [u8],
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            // One byte more than a datagram can have: what fills it is too long.
            buffers: (0..MAX_BATCH)
                .map(|_| vec![0; MAX_DATA + 1].into_boxed_slice())
                .collect(),
            received: Vec::with_capacity(MAX_BATCH),
        }
    }

    /// The buffers, and the list of what is in them.
    pub(super) fn parts(&mut self) -> (&mut [Box<[u8]>], &mut Vec<Received>) {
        (&mut self.buffers, &mut self.received)
    }

    /// How many datagrams there are.
    pub(crate) fn len(&self) -> usize {
        self.received.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// Forgets all datagrams.
    pub(crate) fn clear(&mut self) {
        self.received.clear();
    }

    /// Forgets the first datagrams.
    pub(crate) fn remove_first(&mut self, count: usize) {
        self.received.drain(..count.min(self.received.len()));
    }

    /// Who has sent all of them. `None` if they have several senders.
    pub(crate) fn only_sender(&self) -> Option<&SocketName> {
        let (first, rest) = self.received.split_first()?;
        let sender = &first.ends.peer;
        let is_same = |it: &Received| it.ends.peer == *sender;
        rest.iter().all(is_same).then_some(sender)
    }

    /// The datagrams, in the order in which they came.
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Datagram<'_>> {
        self.received.iter().map(|received| Datagram {
            ends: &received.ends,
            data: self
                .buffers
                .get(received.place)
                .and_then(|buffer| buffer.get(..received.length))
                .unwrap_or_default(),
        })
    }
}
