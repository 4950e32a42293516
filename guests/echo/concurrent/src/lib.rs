//! The echo family under the contract `concurrent`: one asynchronous call per
//! connection, any number of calls in one instance.

use echo_protocol::{Echo, EchoProtocol, Mode};
use sockserve_handler::p3::concurrent::{
    Draining, Handler, ROUNDS, Streams, Written, deliver, read, serve, serve_by, write,
};
use sockserve_handler::session::Conversation;
use sockserve_handler::{End, HasProtocol};
use wasip3::sockets::types::TcpSocket;
use wit_bindgen::StreamResult;

struct Component;

sockserve_handler::p3::concurrent::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::rolling_hand_over!();
sockserve_handler::check_at_start!(<Component as HasProtocol>::protocol);

impl HasProtocol for Component {
    type Protocol = EchoProtocol;

    fn protocol() -> Result<EchoProtocol, String> {
        let mode = sockserve_handler::option("MODE")?;
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

/// The size of a connection's buffer at first, in bytes. It is small because many
/// connections are idle.
const SMALL: usize = 2 * 1024;

/// The size up to which the buffer grows for a peer that sends much.
const LARGE: usize = 64 * 1024;

/// Echoes until the peer half-closes.
///
/// One buffer is used for reading and for writing. The conversation holds only output
/// that an earlier version did not write, and output that is left for the next version.
async fn echo(
    talk: &mut Conversation<Echo>,
    mut streams: Streams,
    draining: &Draining,
) -> Result<End, String> {
    if deliver(talk, &mut streams.output, draining).await == End::HandOver {
        return Ok(End::HandOver);
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
            StreamResult::Cancelled => return Ok(End::HandOver),
        }
        let wanted = capacity_after(chunk.len(), chunk.capacity());
        let (written, rest) = write(&mut streams.output, chunk, draining).await;
        if written == Written::Gone {
            // The future of `send` says why.
            return streams.finish(false).await.map(|()| End::Done);
        }
        // With a peer that is always ready no read or write waits.
        if round % ROUNDS == 0 {
            wit_bindgen::yield_async().await;
            draining.check().await;
        }
        if draining.is_ready() {
            talk.output.bytes.push(&rest);
            return Ok(End::HandOver);
        }
        buffer = rest;
        if wanted != buffer.capacity() {
            buffer = Vec::with_capacity(wanted);
        }
    }
    streams.finish(true).await.map(|()| End::Done)
}

/// The size that the buffer should have after a read. A buffer that was filled grows,
/// one that stays nearly empty shrinks.
fn capacity_after(read: usize, capacity: usize) -> usize {
    if read == capacity {
        (capacity * 4).min(LARGE)
    } else if read < SMALL {
        SMALL
    } else {
        capacity
    }
}
