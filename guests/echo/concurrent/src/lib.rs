//! The echo family under the contract `concurrent`: one asynchronous call for one
//! connection, any number of them in an instance.

use echo_protocol::{Echo, Mode};
use shell_p3::{Handler, Streams, peer, serve};
use wasip3::sockets::types::TcpSocket;
use wit_bindgen::StreamResult;

struct Component;

shell_p3::export!(Component);

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        match shell::option("MODE")? {
            Mode::Stream => echo(&socket).await,
            mode => {
                let mut session = Echo::new(mode, peer(&socket)?.ip());
                serve(&mut session, &socket).await
            }
        }
    }
}

/// Where the buffer of a connection begins, so that an idle one is light.
const SMALL: usize = 2 * 1024;

/// How far it grows for a peer that sends in bulk.
const LARGE: usize = 64 * 1024;

/// How many rounds may pass without letting others run.
const ROUNDS: u32 = 32;

/// Echoes until the peer half-closes. One buffer goes back and forth between
/// reading and writing.
async fn echo(socket: &TcpSocket) -> Result<(), String> {
    let mut streams = Streams::new(socket);
    let mut buffer = Vec::with_capacity(SMALL);
    for round in 1.. {
        let (result, chunk) = streams.input.read(buffer).await;
        if result == StreamResult::Dropped {
            break;
        }
        let wanted = capacity_after(chunk.len(), chunk.capacity());
        buffer = streams.output.write_all(chunk).await;
        if !buffer.is_empty() {
            // The peer has gone, and `sent` says how.
            return streams.finish(false).await;
        }
        if wanted != buffer.capacity() {
            buffer = Vec::with_capacity(wanted);
        }
        // A peer that is always ready would otherwise never let go.
        if round % ROUNDS == 0 {
            wit_bindgen::yield_async().await;
        }
    }
    streams.finish(true).await
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
