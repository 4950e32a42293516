//! From a call of `handle` to the author's function.

use super::Connection;
use super::lower::{Draining, connection};
use crate::HandOver;
use crate::ahead::Ahead;
use crate::hand_over;
use crate::saved::SavedConnection;
use crate::session::Phase;
use std::fmt::Display;
use wasip3::sockets::types::TcpSocket;

/// Serves a connection by a function.
pub async fn serve<E: Display>(
    socket: TcpSocket,
    handle: impl AsyncFnOnce(&mut Connection) -> Result<(), E>,
) -> Result<(), String> {
    let mut connection = Connection::new(socket, Draining::never());
    let handled = handle(&mut connection).await;
    let sent = connection.send(false).await;
    handled.map_err(|error| error.to_string())?;
    sent.map_err(|error| error.to_string())?;
    let is_at_end = connection.is_at_end;
    connection.streams.finish(is_at_end).await
}

/// Serves a connection by a function with a state, and hands it over.
pub async fn serve_with<T: HandOver + Default, E: Display>(
    socket: TcpSocket,
    handle: impl AsyncFnOnce(&mut Connection, &mut T) -> Result<(), E>,
) -> Result<(), String> {
    let id = connection(&socket);
    let mut connection = Connection::new(socket, Draining::new(id));
    let (mut phase, mut state) = (Phase::Open, T::default());
    if let Some(saved) = hand_over::resume::<T>(id)? {
        connection.ahead = Ahead::new(&saved.input);
        connection.unsent.push(&saved.output);
        (phase, state) = (saved.phase, T::resume(saved.state));
    }
    if phase == Phase::Open {
        let handled = handle(&mut connection, &mut state).await;
        if handled.is_err() && connection.is_handed_over() {
            give_up(id, connection, phase, &state);
            return Ok(());
        }
        if let Err(error) = handled {
            // What was written before the error is sent, as far as that is possible.
            let _ = connection.send(false).await;
            return Err(error.to_string());
        }
        phase = Phase::Closing;
    }
    let sent = connection.send(true).await;
    sent.map_err(|error| error.to_string())?;
    if !connection.unsent.is_empty() {
        give_up(id, connection, phase, &state);
        return Ok(());
    }
    let is_at_end = connection.is_at_end;
    connection.streams.finish(is_at_end).await
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
