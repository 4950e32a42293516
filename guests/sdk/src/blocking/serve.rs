//! From a call of `handle` to the author's function.

use super::Connection;
use crate::HandOver;
use crate::ahead::Ahead;
use crate::hand_over;
use crate::p2::blocking::{Draining, connection};
use crate::saved::SavedConnection;
use crate::session::Phase;
use std::fmt::Display;
use wasi::io::streams::{InputStream, OutputStream};
use wasi::sockets::tcp::TcpSocket;

/// Serves a connection by a function.
pub fn serve<E: Display>(
    socket: TcpSocket,
    input: InputStream,
    output: OutputStream,
    handle: impl FnOnce(&mut Connection) -> Result<(), E>,
) -> Result<(), String> {
    let mut connection = Connection::new(socket, input, output, Draining::never());
    let handled = handle(&mut connection);
    let sent = connection.finish();
    handled.map_err(|error| error.to_string())?;
    sent.map(|_| ()).map_err(|error| error.to_string())
}

/// Serves a connection by a function with a state, and hands it over.
pub fn serve_with<T: HandOver + Default, E: Display>(
    socket: TcpSocket,
    input: InputStream,
    output: OutputStream,
    handle: impl FnOnce(&mut Connection, &mut T) -> Result<(), E>,
) -> Result<(), String> {
    let id = connection(&socket);
    let mut connection = Connection::new(socket, input, output, Draining::new(id));
    let (mut phase, mut state) = (Phase::Open, T::default());
    if let Some(saved) = hand_over::resume::<T>(id)? {
        connection.ahead = Ahead::new(&saved.input);
        connection.unsent.push(&saved.output);
        (phase, state) = (saved.phase, T::resume(saved.state));
    }
    if phase == Phase::Open {
        let handled = handle(&mut connection, &mut state);
        if handled.is_err() && connection.is_handed_over() {
            give_up(id, connection, phase, &state);
            return Ok(());
        }
        if let Err(error) = handled {
            // What was written before the error is sent, as far as that is possible.
            let _ = connection.finish();
            return Err(error.to_string());
        }
        phase = Phase::Closing;
    }
    if connection.finish().map_err(|error| error.to_string())? {
        give_up(id, connection, phase, &state);
    }
    Ok(())
}

fn give_up<T: HandOver>(id: u64, mut connection: Connection, phase: Phase, state: &T) {
    let saved = SavedConnection {
        phase,
        output: connection.unsent.take(),
        input: connection.ahead.bytes.take(),
        state: state.save(),
    };
    hand_over::give_up(id, saved.encode(T::TAG));
}
