//! The small servers under the contract `concurrent`: one asynchronous call per
//! connection, any number of calls in one instance.

use futures_util::future::{Either, select};
use small_protocol::{Service, Small, SmallProtocol};
use sockserve_handler::p3::concurrent::{
    Draining, Handler, ROUNDS, Streams, Written, read, serve, serve_by, write,
};
use sockserve_handler::session::Conversation;
use sockserve_handler::{End, HasProtocol};
use std::pin::pin;
use wasip3::sockets::types::TcpSocket;
use wit_bindgen::{StreamReader, StreamResult, StreamWriter};

struct Component;

sockserve_handler::p3::concurrent::export!(Component);
sockserve_handler::hand_over::export!(Component);
sockserve_handler::rolling_hand_over!();
sockserve_handler::check_at_start!(<Component as HasProtocol>::protocol);

impl HasProtocol for Component {
    type Protocol = SmallProtocol;

    fn protocol() -> Result<SmallProtocol, String> {
        Ok(SmallProtocol {
            service: sockserve_handler::option("SERVICE")?,
            quote: sockserve_handler::option("QUOTE")?,
            clock: sockserve_handler::unix_time,
        })
    }
}

impl Handler for Component {
    async fn handle(socket: TcpSocket) -> Result<(), String> {
        let protocol = Self::protocol()?;
        match protocol.service {
            Service::Chargen => serve_by(&protocol, &socket, chargen).await,
            _ => serve(&protocol, &socket).await,
        }
    }
}

/// The most bytes of input that are read at once, to be dropped.
const READ_AT_ONCE: usize = 4096;

/// Writes the pattern until the peer takes no more, and drops what comes in the meantime.
/// So a peer that sends and does not read is never held back.
async fn chargen(
    talk: &mut Conversation<Small>,
    mut streams: Streams,
    draining: &Draining,
) -> Result<End, String> {
    let end = {
        let dropping = pin!(drop_input(&mut streams.input, draining));
        let writing = pin!(write_pattern(talk, &mut streams.output, draining));
        match select(writing, dropping).await {
            Either::Left((end, _)) => end,
            // The peer sends no more, or the connection is to be handed over.
            Either::Right(((), writing)) => writing.await,
        }
    };
    if end == End::Done {
        // Every connection to chargen ends with an error of the output.
        let _ = streams.finish(false).await;
    }
    Ok(end)
}

/// Reads to the end of the input, or until the connection is to be handed over.
async fn drop_input(input: &mut StreamReader<u8>, draining: &Draining) {
    let mut buffer = Vec::with_capacity(READ_AT_ONCE);
    for round in 1_u32.. {
        let (result, chunk) = read(input, buffer, draining).await;
        if !matches!(result, StreamResult::Complete(_)) {
            return;
        }
        buffer = chunk;
        buffer.clear();
        // With a peer that is always ready no read waits.
        if round.is_multiple_of(ROUNDS) {
            wit_bindgen::yield_async().await;
        }
    }
}

async fn write_pattern(
    talk: &mut Conversation<Small>,
    output: &mut StreamWriter<u8>,
    draining: &Draining,
) -> End {
    for round in 1_u32.. {
        if talk.output.bytes.is_empty() {
            talk.add_more();
        }
        let (written, rest) = write(output, talk.output.bytes.take(), draining).await;
        match written {
            Written::All => {}
            Written::Gone => return End::Done,
            Written::HandOver => {
                talk.output.bytes.push(&rest);
                return End::HandOver;
            }
        }
        // With a peer that is always ready no write waits.
        if round.is_multiple_of(ROUNDS) {
            wit_bindgen::yield_async().await;
            if draining.check().await {
                return End::HandOver;
            }
        }
    }
    End::Done
}
