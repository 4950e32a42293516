//! The small servers under the contract `blocking`: one call per connection.

use small_protocol::{Service, Small, SmallProtocol};
use sockserve_handler::p2::blocking::{Draining, Handler, serve, serve_by};
use sockserve_handler::p2::{CHUNK, permit};
use sockserve_handler::session::Conversation;
use sockserve_handler::{End, HasProtocol};
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::TcpSocket;

struct Component;

sockserve_handler::p2::blocking::export!(Component);
sockserve_handler::hand_over::export!(Component);
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
    fn handle(socket: TcpSocket, input: InputStream, output: OutputStream) -> Result<(), String> {
        let protocol = Self::protocol()?;
        if protocol.service != Service::Chargen {
            return serve(&protocol, &socket, &input, &output);
        }
        serve_by(&protocol, &socket, |talk, draining| {
            // A write that fails is the end of every connection to chargen.
            Ok(chargen(talk, draining, &input, &output).unwrap_or(End::Done))
        })
    }
}

/// Writes the pattern until a write fails, and drops what comes in the meantime. So a
/// peer that sends and does not read is never held back.
fn chargen(
    talk: &mut Conversation<Small>,
    draining: &mut Draining,
    input: &InputStream,
    output: &OutputStream,
) -> Result<End, StreamError> {
    loop {
        if draining.check_sometimes() {
            return Ok(End::HandOver);
        }
        if !talk.is_finished() && input.skip(CHUNK as u64).is_err() {
            talk.end();
        }
        let room = permit(output)?;
        if room == 0 {
            if wait(talk, draining, input, output) {
                return Ok(End::HandOver);
            }
            continue;
        }
        if talk.output.bytes.is_empty() {
            talk.add_more();
        }
        let piece = talk.output.bytes.front(room);
        output.write(piece)?;
        let written = piece.len();
        talk.output.bytes.consume(written);
    }
}

/// Waits for room in the output, or for input. Returns whether the connection is to be
/// handed over.
fn wait(
    talk: &Conversation<Small>,
    draining: &Draining,
    input: &InputStream,
    output: &OutputStream,
) -> bool {
    let room = output.subscribe();
    if talk.is_finished() {
        return draining.wait_for(&[&room]);
    }
    draining.wait_for(&[&room, &input.subscribe()])
}
