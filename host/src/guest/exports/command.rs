//! The contract `command` on WASI 0.2: a program, which is started once per connection.

use super::blocking::while_sending;
use crate::connection::Connection;
use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::failure::Failure;
use std::pin::pin;
use std::sync::Arc;
use wasmtime::Store;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings;

pub(super) use wasmtime_wasi::p2::bindings::CommandIndices as Pre;

/// The functions of one instance.
pub(crate) struct Command(pub(super) bindings::Command);

impl Command {
    /// Runs the program until it ends. Its standard input and output are the connection.
    pub(crate) async fn run(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
        connection: &Arc<Connection>,
    ) -> Result<(), Failure> {
        let call = pin!(self.0.wasi_cli_run().call_run(store));
        ended(while_sending(clock, connection, call).await)
    }

    /// Runs the program until it ends, without a connection. Returns its exit status.
    pub(crate) async fn status(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> Result<i32, Failure> {
        let call = pin!(self.0.wasi_cli_run().call_run(store));
        status(clock.count(call).await)
    }
}

/// Converts how a program ended. Another exit status than 0 is a failure.
pub(super) fn ended(result: wasmtime::Result<Result<(), ()>>) -> Result<(), Failure> {
    match status(result)? {
        0 => Ok(()),
        status => Err(Failure::Guest(format!("exit status {status}"))),
    }
}

/// Returns the exit status of a program.
pub(super) fn status(result: wasmtime::Result<Result<(), ()>>) -> Result<i32, Failure> {
    match result {
        Ok(Ok(())) => Ok(0),
        Ok(Err(())) => Ok(1),
        Err(error) => match error.downcast_ref() {
            Some(I32Exit(status)) => Ok(*status),
            None => Err(Failure::from_call(&error)),
        },
    }
}
