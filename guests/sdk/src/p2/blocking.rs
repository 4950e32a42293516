//! The contract `blocking`, and how its `handle` learns that the connection is to be
//! handed over.
#![allow(missing_docs, reason = "wit-bindgen writes some items without them")]

use crate::p2::{describe, peer, permit};
use crate::session::{Conversation, Protocol, Session};
use crate::{ConnectionId, End, hand_over};
use wasi::io::poll::{Pollable, poll};
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::TcpSocket;

wit_bindgen::generate!({
    path: "wit",
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
    default_bindings_module: "sockserve_handler::p2::blocking",
});

use imports::sockserve::handler::blocking_draining::draining;

pub use exports::sockserve::handler::blocking::Guest as Handler;
pub use imports::sockserve::handler::blocking_draining::connection;

mod imports {
    wit_bindgen::generate!({
        inline: "
            package sockserve:sdk;

            world blocking-draining {
                import sockserve:handler/blocking-draining@0.1.0;
            }
        ",
        path: "wit",
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

/// One of so many calls of [`Draining::check_sometimes`] asks the host.
const ROUNDS: u32 = 32;

/// Whether the connection is to be handed over.
///
/// The host interrupts a wait for this; then [`is_ready`](Draining::is_ready) is true.
/// With a peer that is so fast that the handler never waits, `check_sometimes` finds
/// it out.
pub struct Draining {
    /// `None` if the connection is never handed over.
    pollable: Option<Pollable>,
    rounds: u32,
}

impl Draining {
    /// Becomes ready when `connection` is to be handed over.
    pub fn new(connection: ConnectionId) -> Self {
        Self {
            pollable: Some(draining(connection)),
            rounds: 0,
        }
    }

    /// Never becomes ready.
    pub fn never() -> Self {
        Self {
            pollable: None,
            rounds: 0,
        }
    }

    /// Whether the connection is to be handed over. Asks the host.
    pub fn is_ready(&self) -> bool {
        self.pollable.as_ref().is_some_and(Pollable::ready)
    }

    /// As [`is_ready`](Draining::is_ready), but asks the host at every 32nd call only.
    pub fn check_sometimes(&mut self) -> bool {
        let round = self.rounds;
        self.rounds = (round + 1) % ROUNDS;
        round == 0 && self.is_ready()
    }

    /// Waits for one of `others`. Returns whether the connection is to be handed over
    /// by then.
    pub fn wait_for(&self, others: &[&Pollable]) -> bool {
        let all: Vec<&Pollable> = others.iter().copied().chain(&self.pollable).collect();
        let ready = poll(&all);
        ready
            .iter()
            .any(|&index| usize::try_from(index) == Ok(others.len()))
    }

    /// As [`wait_for`](Draining::wait_for), for room in `output`.
    fn wait_for_room(&self, output: &OutputStream) -> bool {
        self.wait_for(&[&output.subscribe()])
    }
}

/// Serves one connection by a protocol, until the connection ends or is handed over.
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

/// As [`serve`], but `carry` carries the conversation.
pub fn serve_by<P: Protocol>(
    protocol: &P,
    socket: &TcpSocket,
    carry: impl FnOnce(&mut Conversation<P::Session>, &mut Draining) -> Result<End, String>,
) -> Result<(), String> {
    let id = connection(socket);
    let mut talk = hand_over::open_conversation(protocol, id, || peer(socket))?;
    if carry(&mut talk, &mut Draining::new(id))? == End::HandOver {
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
        if deliver(talk, draining, output)? == End::HandOver {
            return Ok(End::HandOver);
        }
        if talk.is_finished() {
            return finish(draining, output);
        }
        if draining.check_sometimes() {
            return Ok(End::HandOver);
        }
        let limit = u64::try_from(talk.session.read_limit()).unwrap_or(u64::MAX);
        match input.blocking_read(limit) {
            Ok(chunk) if chunk.is_empty() => {
                if draining.is_ready() {
                    return Ok(End::HandOver);
                }
            }
            Ok(chunk) => talk.receive(&chunk),
            Err(StreamError::Closed) => talk.end(),
            Err(error) => return Err(describe("read", &error)),
        }
    }
}

/// Prints and writes all output of a session, in as many pieces as it has.
pub fn deliver(
    talk: &mut Conversation<impl Session>,
    draining: &mut Draining,
    output: &OutputStream,
) -> Result<End, String> {
    loop {
        crate::print_log(&mut talk.output.log);
        while !talk.output.bytes.is_empty() {
            let permit = permit(output).map_err(|error| describe("write", &error))?;
            if permit == 0 {
                if draining.wait_for_room(output) {
                    return Ok(End::HandOver);
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
        if !talk.add_more() {
            return Ok(End::Done);
        }
        if draining.check_sometimes() {
            return Ok(End::HandOver);
        }
    }
}

/// Waits until everything that was written is sent. `sockserve` needs no such wait,
/// but another host may drop unsent bytes together with the stream. If the connection
/// is to be handed over in the meantime, the next version can wait.
pub fn finish(draining: &Draining, output: &OutputStream) -> Result<End, String> {
    output
        .blocking_flush()
        .map_err(|error| describe("write", &error))?;
    if draining.is_ready() {
        Ok(End::HandOver)
    } else {
        Ok(End::Done)
    }
}
