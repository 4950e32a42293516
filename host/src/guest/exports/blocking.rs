//! The contract `blocking`: one call per connection, on WASI 0.2.

use crate::connection::Connection;
use crate::guest::State;
use crate::guest::clock::GuestClock;
use crate::guest::failure::Failure;
use crate::sockets::p2;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use wasmtime::Store;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "sockserve:handler/blocking-handler",
        exports: { default: async },
        with: { "wasi": wasmtime_wasi::p2::bindings },
    });
}

pub(super) use bindings::BlockingHandlerIndices as Pre;

/// The functions of one instance.
pub(crate) struct Blocking(pub(super) bindings::BlockingHandler);

impl Blocking {
    /// Calls the handler for a connection.
    pub(crate) async fn handle(
        &self,
        store: &mut Store<State>,
        clock: &GuestClock,
        connection: &Arc<Connection>,
    ) -> Result<(), Failure> {
        let call = pin!(async {
            let (socket, input, output) = p2::push(&mut store.data_mut().table, connection)?;
            self.0
                .sockserve_handler_blocking()
                .call_handle(&mut *store, socket, input, output)
                .await
        });
        Failure::from_result(while_sending(clock, connection, call).await)
    }
}

/// Waits for a call. While the guest waits for something else, sends the output that the
/// kernel did not take before.
pub(super) async fn while_sending<R>(
    clock: &GuestClock,
    connection: &Arc<Connection>,
    mut call: Pin<&mut impl Future<Output = wasmtime::Result<R>>>,
) -> wasmtime::Result<R> {
    poll_fn(|cx| {
        let result = clock.poll(call.as_mut(), cx);
        if result.is_pending() && connection.has_unsent() {
            // The guest sees the error at its next write.
            let _ = connection.poll_flush(cx);
        }
        result
    })
    .await
}
