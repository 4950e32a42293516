//! The contract `command` on WASI 0.3.

use super::command::{ended, status};
use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::failure::Failure;
use std::pin::pin;
use wasmtime::Store;
use wasmtime_wasi::p3::bindings;

pub(super) use wasmtime_wasi::p3::bindings::CommandIndices as Pre;

/// The functions of one instance.
pub(crate) struct CommandP3(pub(super) bindings::Command);

impl CommandP3 {
    /// Runs the program until it ends. Its standard input and output are the connection.
    pub(crate) async fn run(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> Result<(), Failure> {
        ended(self.call(store, clock).await)
    }

    /// Runs the program until it ends, without a connection. Returns its exit status.
    pub(crate) async fn status(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> Result<i32, Failure> {
        status(self.call(store, clock).await)
    }

    async fn call(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
    ) -> wasmtime::Result<Result<(), ()>> {
        let call =
            store.run_concurrent(async |accessor| self.0.wasi_cli_run().call_run(accessor).await);
        clock.count(pin!(call)).await.flatten()
    }
}
