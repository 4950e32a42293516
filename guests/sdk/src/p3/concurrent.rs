//! The contract `concurrent`.
#![allow(missing_docs, reason = "wit-bindgen writes some items without them")]

use crate::connection_info::connection_types::Info;
use crate::session::Peer;
use wasip3::sockets::types::{ErrorCode, TcpSocket};
use wit_bindgen::{FutureReader, StreamReader, StreamWriter};

wit_bindgen::generate!({
    path: "wit",
    world: "concurrent-handler",
    with: {
        "wasi:clocks/types@0.3.0": wasip3::clocks::types,
        "wasi:sockets/types@0.3.0": wasip3::sockets::types,
    },
    pub_export_macro: true,
    default_bindings_module: "sockserve_handler::p3::concurrent",
});

pub use super::draining::{Draining, Written, read, write};
pub use super::serve::{ROUNDS, Ran, deliver, run, serve, serve_by};
pub use exports::sockserve::handler::concurrent::Guest as Handler;
pub use imports::sockserve::handler::concurrent_draining::connection;

pub(super) mod imports {
    wit_bindgen::generate!({
        inline: "
            package sockserve:sdk;

            world concurrent-imports {
                import sockserve:handler/concurrent-connection-info@0.1.0;
                import sockserve:handler/concurrent-draining@0.1.0;
            }
        ",
        path: "wit",
        with: {
            "sockserve:handler/concurrent-connection-info@0.1.0": generate,
            "sockserve:handler/concurrent-draining@0.1.0": generate,
            "sockserve:handler/connection-types@0.1.0": crate::connection_info::connection_types,
            "wasi:clocks/types@0.3.0": wasip3::clocks::types,
            "wasi:sockets/types@0.3.0": wasip3::sockets::types,
        },
    });
}

/// How a direction of a connection ended.
type Ending = FutureReader<Result<(), ErrorCode>>;

/// Both directions of a connection.
pub struct Streams {
    pub input: StreamReader<u8>,
    pub output: StreamWriter<u8>,
    received: Ending,
    sent: Ending,
}

impl Streams {
    /// Takes the streams of a socket. A socket has them only once.
    pub fn new(socket: &TcpSocket) -> Self {
        let (input, received) = socket.receive();
        let (output, data) = wasip3::wit_stream::new();
        let sent = socket.send(data);
        Self {
            input,
            output,
            received,
            sent,
        }
    }

    /// Ends the output. Later writes find that nobody reads them.
    pub fn end_output(&mut self) {
        let (closed, _) = wasip3::wit_stream::new();
        self.output = closed;
    }

    /// Ends the output, and waits until it is sent. Does not wait for the peer's end.
    ///
    /// `at_end_of_input` says whether the input was read to its end; then an error of
    /// the input is an error too. The error is one line for the host's log.
    ///
    /// A connection is not handed over from here, because all its output is written.
    pub async fn finish(self, at_end_of_input: bool) -> Result<(), String> {
        drop(self.output);
        if at_end_of_input {
            ended("receive", self.received).await?;
        }
        ended("send", self.sent).await
    }
}

async fn ended(what: &str, ending: Ending) -> Result<(), String> {
    ending
        .await
        .map_err(|code| format!("{what}: {}", super::error_name(&code)))
}

/// The peer. The error is one line for the host's log.
pub fn peer(socket: &TcpSocket) -> Result<Peer, String> {
    crate::connection_info::peer(connection_info(socket))
}

/// What the host says of an accepted connection.
pub fn connection_info(socket: &TcpSocket) -> Option<Info> {
    imports::sockserve::handler::concurrent_connection_info::describe(socket)
}
