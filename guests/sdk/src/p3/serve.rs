//! Carries a conversation over a connection.

use crate::p3::concurrent::{Draining, Streams, Written, connection, peer, read, write};
use crate::session::{Conversation, Protocol, Session};
use crate::{End, hand_over};
use wasip3::sockets::types::TcpSocket;
use wit_bindgen::{StreamResult, StreamWriter};

/// After so many rounds a connection lets others run.
pub const ROUNDS: u32 = 32;

/// The most bytes that [`run`] reads at once. An idle connection has a buffer of this
/// size.
const READ_AT_ONCE: usize = 1024;

/// Serves one connection by a protocol, until the connection ends or is handed over.
pub async fn serve<P: Protocol>(protocol: &P, socket: &TcpSocket) -> Result<(), String> {
    serve_by(
        protocol,
        socket,
        async |talk, mut streams, draining| match run(talk, &mut streams, draining).await {
            Ran::Done { at_end_of_input } => {
                streams.finish(at_end_of_input).await.map(|()| End::Done)
            }
            Ran::HandOver => Ok(End::HandOver),
        },
    )
    .await
}

/// A conversation of a protocol.
type Talk<P> = Conversation<<P as Protocol>::Session>;

/// As [`serve`], but `carry` carries the conversation.
pub async fn serve_by<P: Protocol>(
    protocol: &P,
    socket: &TcpSocket,
    carry: impl AsyncFnOnce(&mut Talk<P>, Streams, &Draining) -> Result<End, String>,
) -> Result<(), String> {
    let id = connection(socket);
    let mut talk = hand_over::open_conversation(protocol, id, || peer(socket))?;
    let draining = Draining::new(id);
    if carry(&mut talk, Streams::new(socket), &draining).await? == End::HandOver {
        hand_over::give_up(id, hand_over::save::<P>(&mut talk));
    }
    Ok(())
}

/// How [`run`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The conversation is done.
    Done {
        /// Whether the input was read to its end.
        at_end_of_input: bool,
    },
    /// The connection is to be handed over as it is.
    HandOver,
}

/// Carries a conversation until it is done, or the connection is to be handed over.
pub async fn run(
    talk: &mut Conversation<impl Session>,
    streams: &mut Streams,
    draining: &Draining,
) -> Ran {
    let mut at_end_of_input = false;
    for round in 1.. {
        if deliver(talk, &mut streams.output, draining).await == End::HandOver {
            return Ran::HandOver;
        }
        if talk.is_finished() {
            break;
        }
        // With a peer that is always ready no read or write waits.
        if round % ROUNDS == 0 {
            wit_bindgen::yield_async().await;
            if draining.check().await {
                return Ran::HandOver;
            }
        }
        let buffer = Vec::with_capacity(talk.session.read_limit().min(READ_AT_ONCE));
        let (result, chunk) = read(&mut streams.input, buffer, draining).await;
        if result == StreamResult::Dropped {
            talk.end();
            at_end_of_input = true;
        } else if !chunk.is_empty() {
            talk.receive(&chunk);
        }
        if draining.is_ready() && !talk.is_finished() {
            return Ran::HandOver;
        }
    }
    Ran::Done { at_end_of_input }
}

/// Prints and writes all output of a session, in as many pieces as it has. Closes the
/// conversation if the peer takes no more.
pub async fn deliver(
    talk: &mut Conversation<impl Session>,
    output: &mut StreamWriter<u8>,
    draining: &Draining,
) -> End {
    loop {
        crate::print_log(&mut talk.output.log);
        let bytes = talk.output.bytes.take();
        if !bytes.is_empty() {
            let (written, rest) = write(output, bytes, draining).await;
            match written {
                Written::All => {}
                Written::Gone => talk.close(),
                Written::HandOver => {
                    talk.output.bytes.push(&rest);
                    return End::HandOver;
                }
            }
        }
        if !talk.add_more() {
            return End::Done;
        }
    }
}
