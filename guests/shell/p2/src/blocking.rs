//! The contract `blocking`, and how a call of it learns that its connection is to be
//! handed over.

use crate::{describe, peer, permit};
use protocol::{Conversation, Protocol, Session};
use shell::{ConnectionId, End, hand_over};
use wasi::io::poll::{Pollable, poll};
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::TcpSocket;

wit_bindgen::generate!({
    path: "../../../wit",
    world: "blocking-handler",
    with: {
        "wasi:clocks/monotonic-clock@0.2.12": wasi::clocks::monotonic_clock,
        "wasi:io/error@0.2.12": wasi::io::error,
        "wasi:io/poll@0.2.12": wasi::io::poll,
        "wasi:io/streams@0.2.12": wasi::io::streams,
        "wasi:sockets/network@0.2.12": wasi::sockets::network,
        "wasi:sockets/tcp@0.2.12": wasi::sockets::tcp,
    },
    pub_export_macro: true,
    default_bindings_module: "shell_p2::blocking",
});

use imports::sockserve::handler::blocking_draining::draining;

pub use exports::sockserve::handler::blocking::Guest as Handler;
pub use imports::sockserve::handler::blocking_draining::connection;

mod imports {
    wit_bindgen::generate!({
        inline: "
            package sockserve:shell;

            world draining {
                import sockserve:handler/blocking-draining@0.1.0;
            }
        ",
        path: "../../../wit",
        with: {
            "sockserve:handler/blocking-draining@0.1.0": generate,
            "wasi:clocks/monotonic-clock@0.2.12": wasi::clocks::monotonic_clock,
            "wasi:io/error@0.2.12": wasi::io::error,
            "wasi:io/poll@0.2.12": wasi::io::poll,
            "wasi:io/streams@0.2.12": wasi::io::streams,
            "wasi:sockets/network@0.2.12": wasi::sockets::network,
            "wasi:sockets/tcp@0.2.12": wasi::sockets::tcp,
        },
    });
}

/// How often [`Draining::is_due`] asks the host.
const ROUNDS: u32 = 32;

/// Whether the connection is to be handed over.
///
/// Where a wait is interrupted for that, [`is_told`](Draining::is_told) says so. A
/// peer that never lets the handler wait is found out by `is_due`.
pub struct Draining {
    /// None where nobody is to be told.
    pollable: Option<Pollable>,
    rounds: u32,
}

impl Draining {
    /// Is told when `connection` is to be handed over.
    pub fn new(connection: ConnectionId) -> Self {
        Self {
            pollable: Some(draining(connection)),
            rounds: 0,
        }
    }

    /// Is never told.
    pub fn never() -> Self {
        Self {
            pollable: None,
            rounds: 0,
        }
    }

    /// Whether the host has told it.
    pub fn is_told(&self) -> bool {
        self.pollable.as_ref().is_some_and(Pollable::ready)
    }

    /// Whether the host has told it, asked now and then.
    pub fn is_due(&mut self) -> bool {
        let round = self.rounds;
        self.rounds = (round + 1) % ROUNDS;
        round == 0 && self.is_told()
    }

    /// Waits for room in `output`. Says whether the host told it meanwhile.
    fn wait_for(&self, output: &OutputStream) -> bool {
        let room = output.subscribe();
        let Some(pollable) = &self.pollable else {
            room.block();
            return false;
        };
        poll(&[&room, pollable]).contains(&1)
    }
}

/// Serves one connection in the way of a protocol, until its end or until it is
/// handed over.
pub fn serve<P: Protocol>(
    protocol: &P,
    socket: &TcpSocket,
    input: &InputStream,
    output: &OutputStream,
) -> Result<(), String> {
    serve_by(protocol, socket, |talk, draining| {
        run(talk, draining, input, output)
    })
}

/// As [`serve`], in another way of carrying the conversation.
pub fn serve_by<P: Protocol>(
    protocol: &P,
    socket: &TcpSocket,
    carry: impl FnOnce(&mut Conversation<P::Session>, &mut Draining) -> Result<End, String>,
) -> Result<(), String> {
    let id = connection(socket);
    let mut talk = hand_over::converse(protocol, id, || Ok(peer(socket)?.ip()))?;
    if carry(&mut talk, &mut Draining::new(id))? == End::Told {
        hand_over::give_up(id, hand_over::save::<P>(&mut talk));
    }
    Ok(())
}

/// Carries a conversation over a connection.
pub fn run(
    talk: &mut Conversation<impl Session>,
    draining: &mut Draining,
    input: &InputStream,
    output: &OutputStream,
) -> Result<End, String> {
    loop {
        if deliver(talk, draining, output)? == End::Told {
            return Ok(End::Told);
        }
        if talk.is_finished() {
            return finish(draining, output);
        }
        if draining.is_due() {
            return Ok(End::Told);
        }
        let limit = u64::try_from(talk.session.read_limit()).unwrap_or(u64::MAX);
        match input.blocking_read(limit) {
            Ok(chunk) if chunk.is_empty() => {
                if draining.is_told() {
                    return Ok(End::Told);
                }
            }
            Ok(chunk) => talk.receive(&chunk),
            Err(StreamError::Closed) => talk.end(),
            Err(error) => return Err(describe("read", &error)),
        }
    }
}

/// Prints and writes all that a session has to say, in as many pieces as it likes.
pub fn deliver(
    talk: &mut Conversation<impl Session>,
    draining: &mut Draining,
    output: &OutputStream,
) -> Result<End, String> {
    loop {
        shell::print_log(&mut talk.output.log);
        while !talk.output.bytes.is_empty() {
            let permit = permit(output).map_err(|error| describe("write", &error))?;
            if permit == 0 {
                if draining.wait_for(output) {
                    return Ok(End::Told);
                }
                continue;
            }
            let piece = talk.output.bytes.front(permit);
            let written = piece.len();
            output
                .write(piece)
                .map_err(|error| describe("write", &error))?;
            talk.output.bytes.consume(written);
        }
        if !talk.more() {
            return Ok(End::Done);
        }
        if draining.is_due() {
            return Ok(End::Told);
        }
    }
}

/// Waits until all that was written is sent: this host sends what it has taken, but
/// one that forgets it with the stream must be waited for. Another version can do
/// that as well.
pub fn finish(draining: &Draining, output: &OutputStream) -> Result<End, String> {
    output
        .blocking_flush()
        .map_err(|error| describe("write", &error))?;
    if draining.is_told() {
        Ok(End::Told)
    } else {
        Ok(End::Done)
    }
}
