//! A connection, from its accept to its end.

use crate::exports::sockserve::runner::server::Readiness;
use crate::wasi::clocks0_2_12::monotonic_clock::Instant;
use crate::wasi::io::poll::Pollable;
use crate::wasi::io::streams::{InputStream, OutputStream, StreamError};
use crate::wasi::sockets0_2_12::tcp::{ShutdownType, TcpSocket};
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::{Cell, Ref, RefCell};

/// The most bytes that one read gives. The contracts say so.
pub(crate) const CHUNK: u64 = 64 * 1024;

/// So many reads of a connection that ends are made before others have their turn.
const DISCARDED_AT_ONCE: usize = 16;

/// A connection. The handler's resources and the server share it.
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) peer: String,
    pub(crate) local: String,
    pub(crate) interest: Cell<Readiness>,
    /// `None` when the handler is done with it: its resources then no longer work.
    parts: RefCell<Option<Parts>>,
    /// How many of its three resources the handler holds.
    held: Cell<u8>,
    /// Whether the handler has written to it.
    pub(crate) is_written: Cell<bool>,
    /// Whether the handler has found something, or room, since it was told last that it
    /// would.
    pub(crate) has_moved: Cell<bool>,
}

/// What the system gave. The parts are dropped in this order, because each is a child of
/// one that follows.
pub(crate) struct Parts {
    pub(crate) readable: Pollable,
    pub(crate) writable: Pollable,
    input: InputStream,
    output: OutputStream,
    socket: TcpSocket,
}

impl Parts {
    pub(crate) fn new(socket: TcpSocket, input: InputStream, output: OutputStream) -> Self {
        Self {
            readable: input.subscribe(),
            writable: output.subscribe(),
            input,
            output,
            socket,
        }
    }
}

/// One of a connection's three resources, as the handler holds it.
pub(crate) struct Part(Rc<Connection>);

impl Part {
    pub(crate) fn connection(&self) -> &Connection {
        &self.0
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.0.held.set(self.0.held.get().saturating_sub(1));
    }
}

impl Connection {
    pub(crate) fn new(id: u64, peer: String, local: String, parts: Parts) -> Self {
        Self {
            id,
            peer,
            local,
            interest: Cell::new(Readiness::READABLE),
            parts: RefCell::new(Some(parts)),
            held: Cell::new(0),
            is_written: Cell::new(false),
            has_moved: Cell::new(true),
        }
    }

    /// One of the resources for the handler.
    pub(crate) fn part(self: &Rc<Self>) -> Part {
        self.held.set(self.held.get() + 1);
        Part(self.clone())
    }

    /// Whether the handler has dropped all of it.
    pub(crate) fn is_dropped(&self) -> bool {
        self.held.get() == 0
    }

    /// Its parts. `None` if the handler is done with it.
    pub(crate) fn parts(&self) -> Option<Ref<'_, Parts>> {
        Ref::filter_map(self.parts.borrow(), Option::as_ref).ok()
    }

    /// Uses its parts. `None` if the handler is done with it.
    pub(crate) fn with_parts<T>(&self, using: impl FnOnce(&Parts) -> T) -> Option<T> {
        self.parts.borrow().as_ref().map(using)
    }

    pub(crate) fn with_socket<T>(&self, using: impl FnOnce(&TcpSocket) -> T) -> Option<T> {
        self.with_parts(|parts| using(&parts.socket))
    }

    pub(crate) fn with_input<T>(
        &self,
        using: impl FnOnce(&InputStream) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        self.with_parts(|parts| using(&parts.input))
            .unwrap_or(Err(StreamError::Closed))
    }

    pub(crate) fn with_output<T>(
        &self,
        using: impl FnOnce(&OutputStream) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        self.with_parts(|parts| using(&parts.output))
            .unwrap_or(Err(StreamError::Closed))
    }

    /// Begins to end it. The handler's resources no longer work. `None` if that has begun
    /// already.
    pub(crate) fn close(self: Rc<Self>, deadline: Instant) -> Option<Closing> {
        let parts = self.parts.take()?;
        // FIN goes out after everything that was written. It fails only if it is sent.
        let _ = parts.socket.shutdown(ShutdownType::Send);
        let mut closing = Closing {
            connection: self,
            parts,
            deadline,
            is_sent: false,
            is_read: false,
        };
        closing.step();
        Some(closing)
    }
}

/// A connection with which the handler is done: what it has written is sent, and what the
/// peer still sends is read. Else the system would send RST, which can destroy the answer
/// on its way.
pub(crate) struct Closing {
    connection: Rc<Connection>,
    pub(crate) parts: Parts,
    pub(crate) deadline: Instant,
    /// FIN is sent, or nothing can be sent any more.
    pub(crate) is_sent: bool,
    /// The peer's FIN has come, or nothing can come any more.
    pub(crate) is_read: bool,
}

impl Closing {
    /// Does what can be done now.
    pub(crate) fn step(&mut self) {
        self.is_sent = self.is_sent || self.parts.output.check_write().is_err();
        for _ in 0..DISCARDED_AT_ONCE {
            if self.is_read {
                break;
            }
            match self.parts.input.read(CHUNK) {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(_) => {}
                Err(_) => self.is_read = true,
            }
        }
    }

    /// Whether the handler has let go of it. What it still holds may have pollables, and
    /// to drop a stream that has one is a trap.
    pub(crate) fn is_let_go(&self) -> bool {
        self.connection.is_dropped()
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        (self.is_sent && self.is_read) || now >= self.deadline
    }
}
