//! The connections of an instance, with their buffers.

use crate::ahead::Ahead;
use crate::connection_info::connection_types::Info;
use crate::p2::evented::{Interest, Opened};
use crate::p2::{CHUNK, io_error, permit, reading};
use crate::session::Queue;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::time::Duration;
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::{ShutdownType, TcpSocket};

pub use crate::p2::evented::ConnectionId;

/// While so much output waits, no input is read: a peer that does not read is not served.
const OUTPUT_LIMIT: usize = 64 * 1024;

/// The most bytes that are read at a time. The handler gets all of them before the time of the
/// turn is looked at.
const AT_ONCE: usize = 16 * 1024;

/// While so much input is not taken, no more is read.
pub(super) const INPUT_LIMIT: usize = crate::ahead::AHEAD_LIMIT + CHUNK;

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It reads and writes.
    Open,
    /// The peer has sent its end of file.
    Ended,
    /// It closes when all output is sent.
    Closing,
}

/// What a read has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Nothing,
    /// A part of a chunk, or the end.
    Some,
    /// A whole chunk: there may be more.
    Filled,
}

/// One connection and its buffers.
pub(super) struct Entry<D> {
    // Dropped in this order: in other hosts a stream may be a child of its socket.
    input: InputStream,
    output: OutputStream,
    socket: TcpSocket,
    pub(super) interest: Interest,
    pub(super) ahead: Ahead,
    pub(super) unsent: Queue,
    pub(super) standing: Standing,
    pub(super) shuts_down: bool,
    pub(super) data: D,
}

impl<D> Entry<D> {
    pub(super) fn new(opened: Opened, data: D) -> Self {
        Self {
            input: opened.input,
            output: opened.output,
            socket: opened.socket,
            interest: Interest::READABLE,
            ahead: Ahead::default(),
            unsent: Queue::default(),
            standing: Standing::Open,
            shuts_down: false,
            data,
        }
    }

    /// Whether input is read now.
    pub(super) fn takes_input(&self) -> bool {
        self.standing == Standing::Open
            && self.unsent.len() < OUTPUT_LIMIT
            && self.ahead.bytes.len() < INPUT_LIMIT
    }

    /// Reads a chunk.
    pub(super) fn read(&mut self) -> io::Result<Input> {
        match self.input.read(AT_ONCE as u64) {
            Ok(chunk) => {
                reading::note_read(chunk.len());
                self.ahead.bytes.push(&chunk);
                Ok(match chunk.len() {
                    0 => Input::Nothing,
                    AT_ONCE.. => Input::Filled,
                    _ => Input::Some,
                })
            }
            Err(StreamError::Closed) => {
                self.standing = Standing::Ended;
                Ok(Input::Some)
            }
            Err(error) => Err(io_error("read", &error)),
        }
    }

    /// Sends what can be sent now.
    pub(super) fn send(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let room = permit(&self.output).map_err(|error| io_error("write", &error))?;
            if room == 0 {
                return Ok(());
            }
            let piece = self.unsent.front(room);
            self.output
                .write(piece)
                .map_err(|error| io_error("write", &error))?;
            let sent = piece.len();
            self.unsent.consume(sent);
        }
        if std::mem::take(&mut self.shuts_down) {
            self.socket
                .shutdown(ShutdownType::Send)
                .map_err(|code| crate::p2::error_of("shutdown", code))?;
        }
        Ok(())
    }

    /// What to wait for.
    pub(super) fn wanted(&self) -> Interest {
        let mut interest = Interest::empty();
        if self.takes_input() {
            interest |= Interest::READABLE;
        }
        if !self.unsent.is_empty() {
            interest |= Interest::WRITABLE;
        }
        interest
    }
}

/// All connections of an instance.
pub struct Connections<D> {
    pub(super) entries: BTreeMap<ConnectionId, Entry<D>>,
    /// Those that a method has touched.
    pub(super) touched: BTreeSet<ConnectionId>,
    pub(super) tick_after: Option<Duration>,
}

impl<D> Default for Connections<D> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            touched: BTreeSet::new(),
            tick_after: None,
        }
    }
}

impl<D> fmt::Debug for Connections<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl<D> Connections<D> {
    /// The ids of all connections.
    pub fn ids(&self) -> Vec<ConnectionId> {
        self.entries.keys().copied().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One of them, if it is there.
    pub fn get(&mut self, id: ConnectionId) -> Option<Connection<'_, D>> {
        self.entries.contains_key(&id).then_some(())?;
        self.touched.insert(id);
        Some(Connection { all: self, id })
    }

    /// Writes to all connections.
    pub fn broadcast(&mut self, bytes: &[u8]) {
        self.broadcast_but(None, bytes);
    }

    fn broadcast_but(&mut self, but: Option<ConnectionId>, bytes: &[u8]) {
        for (&id, entry) in &mut self.entries {
            if Some(id) != but && entry.standing != Standing::Closing {
                entry.unsent.push(bytes);
                self.touched.insert(id);
            }
        }
    }

    /// Asks for one [`tick`](super::Handler::tick), no earlier than after this time. A new
    /// time replaces the one before.
    pub fn tick_after(&mut self, time: Duration) {
        self.tick_after = Some(time);
    }
}

/// One of the connections, and by it the others.
///
/// Reading takes what has come; there is an error of the kind
/// [`WouldBlock`](io::ErrorKind::WouldBlock) if nothing has. Writing never waits: what the
/// host does not take is queued, without a limit but that no input is read meanwhile.
pub struct Connection<'a, D> {
    pub(super) all: &'a mut Connections<D>,
    pub(super) id: ConnectionId,
}

impl<D> fmt::Debug for Connection<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.id).finish()
    }
}

impl<D> Connection<'_, D> {
    #[allow(
        clippy::expect_used,
        reason = "this is made for an entry that is there, and nothing removes it meanwhile"
    )]
    fn entry(&mut self) -> &mut Entry<D> {
        self.all.entries.get_mut(&self.id).expect("the entry")
    }

    /// Its id. Never used twice while the service runs; the host's log has the same.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// What the handler knows of it.
    pub fn data(&mut self) -> &mut D {
        &mut self.entry().data
    }

    /// Takes a line, without its line ending, `\n` or `\r\n`. `None` if none is complete. At
    /// the end of file, what is left without a line ending is a line too.
    ///
    /// It is an error if the line is not UTF-8 (the line is then taken), or has no end
    /// within 262 144 bytes.
    pub fn next_line(&mut self) -> io::Result<Option<String>> {
        let entry = self.entry();
        let length = match entry.ahead.find(b'\n')? {
            Some(length) => length,
            None if entry.standing == Standing::Ended && !entry.ahead.bytes.is_empty() => {
                entry.ahead.bytes.len()
            }
            None => return Ok(None),
        };
        entry.ahead.take_line(length).map(Some)
    }

    /// Takes all input that has come.
    pub fn take_input(&mut self) -> Vec<u8> {
        let entry = self.entry();
        let bytes = entry.ahead.bytes.take();
        entry.ahead.consume(0);
        bytes
    }

    /// Whether the peer has sent its end of file. There may still be input to take. The
    /// connection closes after this call of [`readable`](super::Handler::readable), when all
    /// output is sent.
    pub fn is_at_end(&mut self) -> bool {
        self.entry().standing == Standing::Ended
    }

    /// Closes the connection when all output is sent, and reads nothing more.
    pub fn close_when_done(&mut self) {
        self.entry().standing = Standing::Closing;
    }

    /// Shuts down writing when all output is sent. The peer can go on sending.
    pub fn shutdown_when_done(&mut self) {
        self.entry().shuts_down = true;
    }

    /// How many bytes of output wait. A handler that writes to others can drop those that
    /// do not read.
    pub fn unsent(&mut self) -> usize {
        self.entry().unsent.len()
    }

    /// All that the host says of the connection. `None` when it is gone.
    pub fn info(&mut self) -> Option<Info> {
        crate::p2::connection_info(&self.entry().socket)
    }

    /// The peer's address: `HOST:PORT`, or the name of its Unix socket, which may be empty.
    pub fn peer(&mut self) -> String {
        self.info().map_or_else(String::new, |info| info.peer)
    }

    /// The address that the peer has connected to, in the same form.
    pub fn local(&mut self) -> String {
        self.info().map_or_else(String::new, |info| info.local)
    }

    /// The socket, for its options.
    pub fn socket(&mut self) -> Socket<'_> {
        Socket {
            socket: &self.entry().socket,
        }
    }

    /// All connections, this one too.
    pub fn all(&mut self) -> &mut Connections<D> {
        self.all
    }

    /// Writes to all others.
    pub fn broadcast(&mut self, bytes: &[u8]) {
        self.all.broadcast_but(Some(self.id), bytes);
    }
}

impl<D> Read for Connection<'_, D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl<D> BufRead for Connection<'_, D> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let entry = self.entry();
        if entry.ahead.bytes.is_empty() && entry.standing == Standing::Open {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(entry.ahead.bytes.front(usize::MAX))
    }

    fn consume(&mut self, count: usize) {
        self.entry().ahead.consume(count);
    }
}

impl<D> Write for Connection<'_, D> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.entry().unsent.push(bytes);
        Ok(bytes.len())
    }

    /// Does nothing: what is written is sent after the call of the handler.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The options of an accepted socket.
pub struct Socket<'a> {
    socket: &'a TcpSocket,
}

impl fmt::Debug for Socket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").finish_non_exhaustive()
    }
}

impl Socket<'_> {
    crate::p2::socket_options!(socket);
}
