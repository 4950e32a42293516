//! A guest's standard output and standard error, as lines in the host's log.
//!
//! A line is logged when it is complete, when it reaches [`MAX_LINE`], or when the
//! instance ends. It has the connection or the sender that it is about, where the host knows
//! for whom the guest writes: an instance that serves all says nothing of that, so it is
//! known under `evented` in a turn with events of one connection only, under `datagram` in a
//! batch of one sender, and not under `concurrent`. Characters that a terminal or a reader would not show as text are
//! escaped (see `text`). A guest never waits for the log.

use crate::connection::record::Record;
use crate::guest::memory::MemoryBook;
use crate::socket_name::SocketName;
use crate::sync::lock;
use crate::text;
use bytes::Bytes;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// The longest line, in bytes. A longer line is logged in pieces.
const MAX_LINE: usize = 8 * 1024;
/// The most bytes that one call of a guest may write.
const PERMIT: usize = 64 * 1024;

/// The service, and the connection if there is only one, that an instance and its output
/// belong to.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) service: Arc<str>,
    /// Where its memory is counted.
    pub(crate) memory: Arc<MemoryBook>,
    /// Whom the instance works for.
    pub(crate) partner: Partner,
}

/// Whom an instance works for, as far as the host knows: for ever the one that it was made
/// for, or for as long as a call lasts. All clones say the same.
#[derive(Clone, Default)]
pub(crate) struct Partner(Arc<Mutex<Option<Known>>>);

/// One connection, or the sender of datagrams.
#[derive(Clone)]
pub(crate) enum Known {
    Connection(Arc<Record>),
    Sender(SocketName),
}

impl Partner {
    /// Waits for a call, and says whom lines are about meanwhile. `None` if that is nobody, or
    /// several. If the call is given up, its instance is too.
    pub(crate) async fn during<R>(
        &self,
        known: Option<Known>,
        call: Pin<&mut impl Future<Output = R>>,
    ) -> R {
        *lock(&self.0) = known;
        let result = call.await;
        *lock(&self.0) = None;
        result
    }

    /// Says whom lines are about from now on. `None` if that is nobody.
    pub(crate) fn set(&self, known: Option<Known>) {
        *lock(&self.0) = known;
    }

    fn get(&self) -> Option<Known> {
        lock(&self.0).clone()
    }
}

impl From<Known> for Partner {
    fn from(known: Known) -> Self {
        Self(Arc::new(Mutex::new(Some(known))))
    }
}

impl Known {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Connection(one), Self::Connection(other)) => one.id == other.id,
            (Self::Sender(one), Self::Sender(other)) => one == other,
            _ => false,
        }
    }
}

/// One of the two streams.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One stream of one instance. All clones write to the same line.
#[derive(Clone)]
pub(crate) struct GuestLog(Arc<Mutex<Line>>);

struct Line {
    scope: Scope,
    stream: Stream,
    /// The line so far.
    partial: Vec<u8>,
    /// Whom it is about: the one for whom the instance wrote all of it.
    about: Option<Known>,
    /// Whether the last line is kept back, and that line.
    keeps_last: bool,
    last: Option<String>,
}

impl GuestLog {
    pub(crate) fn new(scope: Scope, stream: Stream) -> Self {
        Self(Arc::new(Mutex::new(Line {
            scope,
            stream,
            partial: Vec::new(),
            about: None,
            keeps_last: false,
            last: None,
        })))
    }

    /// Keeps the last line out of the log until [`take_last`](Self::take_last), or the end of
    /// the last clone. It may be the reason for which the instance has ended itself.
    pub(crate) fn keeping_last(scope: Scope, stream: Stream) -> Self {
        let log = Self::new(scope, stream);
        lock(&log.0).keeps_last = true;
        log
    }

    /// Returns the last line, which is then not logged. `None` if there is none.
    pub(crate) fn take_last(&self) -> Option<String> {
        let mut line = lock(&self.0);
        line.log();
        line.last.take()
    }

    fn write(&self, bytes: &[u8]) {
        lock(&self.0).write(bytes);
    }
}

impl Line {
    fn write(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            for piece in piece.chunks(MAX_LINE) {
                if self.partial.len() + piece.len() > MAX_LINE {
                    self.log_piece();
                }
                self.note_partner();
                self.partial.extend_from_slice(piece);
            }
            if self.partial.ends_with(b"\n") {
                self.log();
            }
        }
    }

    /// Notes whom the line is about, before more of it is added.
    fn note_partner(&mut self) {
        let partner = self.scope.partner.get();
        let is_same = match (&self.about, &partner) {
            (Some(before), Some(now)) => before.is(now),
            _ => false,
        };
        if self.partial.is_empty() {
            self.about = partner;
        } else if !is_same {
            self.about = None;
        }
    }

    /// Logs the part of a long line that has arrived. Keeps the first bytes of a
    /// character whose other bytes have not arrived yet.
    fn log_piece(&mut self) {
        let begun = match std::str::from_utf8(&self.partial) {
            Err(error) if error.error_len().is_none() => {
                self.partial.split_off(error.valid_up_to())
            }
            _ => Vec::new(),
        };
        self.log();
        self.partial = begun;
    }

    fn log(&mut self) {
        if self.partial.is_empty() {
            return;
        }
        let line = self.partial.strip_suffix(b"\n").unwrap_or(&self.partial);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = text::escape_bytes(line);
        let before = if self.keeps_last {
            self.last.replace(text.into_owned())
        } else {
            Some(text.into_owned())
        };
        self.partial.clear();
        self.log_text(before);
    }

    fn log_text(&self, text: Option<String>) {
        let Some(text) = text else {
            return;
        };
        let service = &*self.scope.service;
        let stream = self.stream.name();
        match &self.about {
            Some(Known::Connection(record)) => {
                let (connection, peer) = (record.id, &record.peer);
                tracing::info!(target: "guest", service, connection, %peer, stream, "{text}");
            }
            Some(Known::Sender(peer)) => {
                tracing::info!(target: "guest", service, %peer, stream, "{text}");
            }
            None => tracing::info!(target: "guest", service, stream, "{text}"),
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.log();
        let last = self.last.take();
        self.log_text(last);
    }
}

impl IsTerminal for GuestLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestLog {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl OutputStream for GuestLog {
    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }

    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        GuestLog::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }
}

#[async_trait]
impl Pollable for GuestLog {
    async fn ready(&mut self) {}
}

impl AsyncWrite for GuestLog {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        GuestLog::write(&self, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
