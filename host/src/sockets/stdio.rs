//! A connection as the standard input and output of a program.
//!
//! Under WASI 0.2 the streams are those of an accepted `tcp-socket`. Closing them sends
//! no FIN: a program may open its standard output again, and the peer gets its FIN when
//! the program has ended, as under inetd.

use crate::connection::{Connection, Held};
use crate::sockets::p2::{Input, Output};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream};

/// Either of the two, of one instance.
pub(crate) struct Stdio(Arc<Connection>);

impl Stdio {
    pub(crate) fn new(connection: &Arc<Connection>) -> Self {
        Self(Arc::clone(connection))
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(Stream(self.0.hold()))
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(Input::new(&self.0))
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Stream(self.0.hold()))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Output::of_program(&self.0))
    }
}

/// Either direction, as WASI 0.3 uses it.
struct Stream(Held);

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(connection) = self.0.get() else {
            return Poll::Ready(Ok(()));
        };
        while buffer.remaining() > 0 {
            match connection.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(connection.poll_readable(cx));
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(connection) = self.0.get() else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        connection.poll_write(cx, bytes).map_err(broken)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.get() {
            Some(connection) => connection.poll_flush(cx).map_err(broken),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

/// A write to a peer that is gone fails as one to a closed pipe does, however the peer
/// has gone. Programs know that.
fn broken(_: io::Error) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}
