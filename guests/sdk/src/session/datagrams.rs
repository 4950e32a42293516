//! A protocol over datagrams: each is answered by at most one other.

use crate::session::Peer;

/// The guest's side of a protocol over datagrams, with its options set. It lasts as long
/// as the instance.
pub trait DatagramProtocol {
    /// How many bytes a datagram may have, to be received.
    fn max_bytes(&self) -> u32;

    /// Answers a datagram, or not. `peer` returns who has sent it; a protocol that does
    /// not need it does not call it. What is to be logged is added to `log`, without line
    /// endings.
    fn answer(
        &mut self,
        peer: impl FnOnce() -> Peer,
        data: Vec<u8>,
        log: &mut Vec<String>,
    ) -> Option<Vec<u8>>;

    /// As [`answer`](DatagramProtocol::answer), with the answer in the place of the
    /// datagram. Returns whether there is one.
    fn answer_in_place(
        &mut self,
        peer: impl FnOnce() -> Peer,
        data: &mut Vec<u8>,
        log: &mut Vec<String>,
    ) -> bool {
        let answer = self.answer(peer, std::mem::take(data), log);
        let is_answered = answer.is_some();
        *data = answer.unwrap_or_default();
        is_answered
    }
}
