//! A program that runs by itself, with the standard streams of this process.
//!
//! The sockets that it opens are wasmtime-wasi's own. What they may be used for, its grants
//! say.

use crate::contract::Contract;
use crate::guest::connection_table::ConnectionTable;
use crate::guest::exports::{Command, CommandP3};
use crate::guest::failure::Failure;
use crate::guest::handler::Handler;
use std::sync::Arc;
use wasmtime_wasi::WasiCtx;

impl Handler {
    /// Runs the program of a handler with the contract `command`, until it ends. Returns
    /// its exit status.
    pub(crate) async fn run_program(&self) -> Result<i32, Failure> {
        let mut wasi = WasiCtx::builder();
        wasi.inherit_stdio();
        let (mut store, clock) =
            self.store_with(wasi, &[], ConnectionTable::empty(), Arc::default())?;
        if self.contract() == Contract::CommandP3 {
            let (program, _) = self.instantiate::<CommandP3>(&mut store, &clock).await?;
            program.status(&mut store, &clock).await
        } else {
            let (program, _) = self.instantiate::<Command>(&mut store, &clock).await?;
            program.status(&mut store, &clock).await
        }
    }
}
