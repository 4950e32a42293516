//! A shell without I/O, for the tests of the protocols.

use crate::session::{Conversation, Protocol, Session, State};
use std::net::Ipv4Addr;

/// What a peer and the log have seen of a conversation.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What was written.
    pub written: Vec<u8>,
    /// What was logged.
    pub log: Vec<String>,
}

/// Runs a conversation over chunks and then end of file.
///
/// Before each step it takes the next of `moves`, if there is one: how many bytes of
/// the output the connection takes in this step, and whether the conversation is
/// handed over before it.
pub fn run<P: Protocol>(
    protocol: &P,
    chunks: impl IntoIterator<Item = Vec<u8>>,
    moves: impl IntoIterator<Item = (usize, bool)>,
) -> Result<Seen, String> {
    let session = || protocol.session(|| Ok((Ipv4Addr::LOCALHOST, 5000).into()));
    let mut talk = Conversation::open(session()?);
    let mut chunks = chunks.into_iter();
    let mut unread = Vec::new();
    let mut moves = moves.into_iter();
    let mut seen = Seen::default();
    loop {
        seen.log.append(&mut talk.output.log);
        let (room, move_it) = moves.next().unwrap_or((usize::MAX, false));
        if move_it {
            let state = State::encode(P::TAG, &talk.save()).ok_or("not encoded")?;
            talk = Conversation::resume(session()?, protocol.decode(&state)?);
        }
        if !talk.output.bytes.is_empty() {
            let piece = talk.output.bytes.front(room.max(1)).to_vec();
            talk.output.bytes.consume(piece.len());
            seen.written.extend(piece);
            continue;
        }
        if talk.add_more() {
            continue;
        }
        if talk.is_finished() {
            seen.log.append(&mut talk.output.log);
            return Ok(seen);
        }
        if unread.is_empty() {
            match chunks.next() {
                Some(chunk) => unread = chunk,
                None => talk.end(),
            }
        }
        if !unread.is_empty() {
            let length = unread.len().min(talk.session.read_limit());
            let chunk: Vec<u8> = unread.drain(..length).collect();
            talk.receive(&chunk);
        }
    }
}
