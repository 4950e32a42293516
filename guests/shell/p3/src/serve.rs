//! Carries a conversation over a connection.

use crate::{Draining, Streams, Written, connection, peer, read, write};
use protocol::{Conversation, Protocol, Session};
use shell::{End, hand_over};
use wasip3::sockets::types::TcpSocket;
use wit_bindgen::{StreamResult, StreamWriter};

/// How many rounds may pass without letting others run.
pub const ROUNDS: u32 = 32;

/// What [`run`] reads at most at once, and so what an idle connection costs.
const READ_AT_ONCE: usize = 1024;

/// Serves one connection in the way of a protocol, until its end or until it is
/// handed over.
pub async fn serve<P: Protocol>(protocol: &P, socket: &TcpSocket) -> Result<(), String> {
    serve_by(
        protocol,
        socket,
        async |talk, mut streams, draining| match run(talk, &mut streams, draining).await {
            Ran::Done { at_end_of_input } => {
                streams.finish(at_end_of_input).await.map(|()| End::Done)
            }
            Ran::Told => Ok(End::Told),
        },
    )
    .await
}

/// A conversation in the way of a protocol.
type Talk<P> = Conversation<<P as Protocol>::Session>;

/// As [`serve`], in another way of carrying the conversation.
pub async fn serve_by<P: Protocol>(
    protocol: &P,
    socket: &TcpSocket,
    carry: impl AsyncFnOnce(&mut Talk<P>, Streams, &Draining) -> Result<End, String>,
) -> Result<(), String> {
    let id = connection(socket);
    let mut talk = hand_over::converse(protocol, id, || Ok(peer(socket)?.ip()))?;
    let draining = Draining::new(id);
    if carry(&mut talk, Streams::new(socket), &draining).await? == End::Told {
        hand_over::give_up(id, hand_over::save::<P>(&mut talk));
    }
    Ok(())
}

/// How [`run`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The connection is to be closed.
    Done {
        /// Whether the input was read to its end.
        at_end_of_input: bool,
    },
    /// The connection is to be handed over as it is.
    Told,
}

/// Carries a conversation until it wants to close.
pub async fn run(
    talk: &mut Conversation<impl Session>,
    streams: &mut Streams,
    draining: &Draining,
) -> Ran {
    let mut at_end_of_input = false;
    for round in 1.. {
        if deliver(talk, &mut streams.output, draining).await == End::Told {
            return Ran::Told;
        }
        if talk.is_finished() {
            break;
        }
        // A peer that is always ready would otherwise never let go.
        if round % ROUNDS == 0 {
            wit_bindgen::yield_async().await;
            if draining.is_told().await {
                return Ran::Told;
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
        if draining.was_told() && !talk.is_finished() {
            return Ran::Told;
        }
    }
    Ran::Done { at_end_of_input }
}

/// Prints and writes all that a session has to say, in as many pieces as it
/// likes. When the peer takes no more the conversation is closed.
pub async fn deliver(
    talk: &mut Conversation<impl Session>,
    output: &mut StreamWriter<u8>,
    draining: &Draining,
) -> End {
    loop {
        shell::print_log(&mut talk.output.log);
        let bytes = talk.output.bytes.take();
        if !bytes.is_empty() {
            let (written, rest) = write(output, bytes, draining).await;
            match written {
                Written::All => {}
                Written::Gone => talk.close(),
                Written::Told => {
                    talk.output.bytes.push(&rest);
                    return End::Told;
                }
            }
        }
        if !talk.more() {
            return End::Done;
        }
    }
}
