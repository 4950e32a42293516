//! The echo family under the contract `concurrent`: one asynchronous call for one
//! connection, any number of them in an instance.

use echo_protocol::{Echo, EchoProtocol, Mode};
use protocol::Conversation;
use shell::{End, Speaks};
use shell_p3::{
    Draining, Handler, ROUNDS, Streams, Written, deliver, read, serve, serve_by, write,
};
use wasip3::sockets::types::TcpSocket;
use wit_bindgen::StreamResult;

struct Component;

shell_p3::export!(Component);
shell::hand_over::export!(Component);

impl Speaks for Component {
    type Protocol = EchoProtocol;

    fn protocol() -> Result<EchoProtocol, String> {
        let mode = shell::option("MODE")?;
        Ok(EchoProtocol { mode })
    }
}

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        let protocol = Self::protocol()?;
        match protocol.mode {
            Mode::Stream => serve_by(&protocol, &socket, echo).await,
            _ => serve(&protocol, &socket).await,
        }
    }
}

/// Where the buffer of a connection begins, so that an idle one is light.
const SMALL: usize = 2 * 1024;

/// How far it grows for a peer that sends in bulk.
const LARGE: usize = 64 * 1024;

/// Echoes until the peer half-closes. One buffer goes back and forth between
/// reading and writing, and in the conversation is only what a version before has left
/// to be said, and what is left for the next.
async fn echo(
    talk: &mut Conversation<Echo>,
    mut streams: Streams,
    draining: &Draining,
) -> Result<End, String> {
    if deliver(talk, &mut streams.output, draining).await == End::Told {
        return Ok(End::Told);
    }
    if talk.is_finished() {
        return streams.finish(false).await.map(|()| End::Done);
    }
    let mut buffer = Vec::with_capacity(SMALL);
    for round in 1.. {
        let (result, chunk) = read(&mut streams.input, buffer, draining).await;
        match result {
            StreamResult::Complete(_) => {}
            StreamResult::Dropped => break,
            StreamResult::Cancelled => return Ok(End::Told),
        }
        let wanted = capacity_after(chunk.len(), chunk.capacity());
        let (written, rest) = write(&mut streams.output, chunk, draining).await;
        if written == Written::Gone {
            // `sent` says how.
            return streams.finish(false).await.map(|()| End::Done);
        }
        // A peer that is always ready would otherwise never let go.
        if round % ROUNDS == 0 {
            wit_bindgen::yield_async().await;
            draining.is_told().await;
        }
        if draining.was_told() {
            talk.output.bytes.push(&rest);
            return Ok(End::Told);
        }
        buffer = rest;
        if wanted != buffer.capacity() {
            buffer = Vec::with_capacity(wanted);
        }
    }
    streams.finish(true).await.map(|()| End::Done)
}

/// A buffer that was filled grows; one that stays nearly empty shrinks.
fn capacity_after(read: usize, capacity: usize) -> usize {
    if read == capacity {
        (capacity * 4).min(LARGE)
    } else if read < SMALL {
        SMALL
    } else {
        capacity
    }
}
