//! A connection as an asynchronous handler has it.

use super::lower::{Draining, ROUNDS, Streams};
use crate::ahead::{AHEAD_LIMIT, Ahead};
use crate::connection_info::connection_types::Info;
use crate::session::Queue;
use std::fmt;
use std::io;
use std::pin::{Pin, pin};
use wasip3::sockets::types::TcpSocket;
use wit_bindgen::{StreamRead, StreamResult, StreamWrite};

/// The most bytes that one read moves. A connection that waits has a buffer of this size.
const READ_AT_ONCE: usize = 4096;

/// So much output is gathered before [`Connection::write_all`] sends it.
const GATHERED: usize = 8 * 1024;

/// A connection, for reading, writing, and its socket.
///
/// Output is gathered, and sent before a read waits and when the handler returns;
/// [`flush`](Self::flush) sends it at once. `write!` and `writeln!` work on it without
/// `await`, because they only gather.
///
/// Each read takes what it promises or nothing, if it is given up (as by
/// [`timeout`](super::timeout)), and if the connection is to be handed over first; then it
/// returns an error for which [`is_handed_over`](Self::is_handed_over) is true. A write
/// never fails for that.
pub struct Connection {
    pub(super) streams: Streams,
    socket: TcpSocket,
    pub(super) ahead: Ahead,
    pub(super) unsent: Queue,
    draining: Draining,
    /// Whether the last read has failed because the connection is to be handed over.
    handed_over: bool,
    pub(super) is_at_end: bool,
    rounds: u32,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(socket: TcpSocket, draining: Draining) -> Self {
        Self {
            streams: Streams::new(&socket),
            socket,
            ahead: Ahead::default(),
            unsent: Queue::default(),
            draining,
            handed_over: false,
            is_at_end: false,
            rounds: 0,
        }
    }

    /// Reads a line, and returns it without its line ending, `\n` or `\r\n`. `None` at the
    /// end of file. What is left there without a line ending is a line too.
    ///
    /// It is an error if the line is not UTF-8 (the line is then taken), or has no end
    /// within 262 144 bytes.
    pub async fn next_line(&mut self) -> io::Result<Option<String>> {
        let length = self.wait_for(b'\n').await?;
        if length == 0 {
            return Ok(None);
        }
        self.ahead.take_line(length).map(Some)
    }

    /// Reads what is there, at least one byte; 0 at the end of file.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ahead.bytes.is_empty() {
            self.read_more(true).await?;
        }
        let mut front = self.ahead.bytes.front(buffer.len());
        let count = io::Read::read(&mut front, buffer)?;
        self.ahead.consume(count);
        Ok(count)
    }

    /// Reads until this byte, and appends what it has read, the byte included. Returns how
    /// many bytes that are. At the end of file that may be fewer, or none.
    pub async fn read_until(&mut self, delimiter: u8, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let length = self.wait_for(delimiter).await?;
        buffer.extend_from_slice(self.ahead.bytes.front(length));
        self.ahead.consume(length);
        Ok(length)
    }

    /// Reads so many bytes. If there are more than 262 144, the connection is not handed
    /// over meanwhile.
    pub async fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let may_hand_over = buffer.len() <= AHEAD_LIMIT;
        while self.ahead.bytes.len() < buffer.len() {
            if !self.read_more(may_hand_over).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut front = self.ahead.bytes.front(buffer.len());
        io::Read::read_exact(&mut front, buffer)?;
        self.ahead.consume(buffer.len());
        Ok(())
    }

    /// Reads to the end of file. The connection is not handed over meanwhile.
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.read_more(false).await? {}
        let bytes = self.ahead.bytes.take();
        self.ahead.consume(0);
        Ok(bytes)
    }

    /// Writes all of it. Waits while more than 8 KiB are gathered.
    pub async fn write_all(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.unsent.push(bytes.as_ref());
        if self.unsent.len() > GATHERED {
            self.send(true).await?;
        }
        Ok(())
    }

    /// For `write!` and `writeln!`. It only gathers, and does not wait.
    pub fn write_fmt(&mut self, arguments: fmt::Arguments<'_>) -> io::Result<()> {
        self.unsent.push(arguments.to_string().as_bytes());
        Ok(())
    }

    /// Sends what is gathered.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.send(true).await
    }

    /// Sends what is gathered, and shuts down writing. The peer can go on sending. From here
    /// on a write fails, and the connection is not handed over.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.send(false).await?;
        self.draining = Draining::never();
        self.streams.end_output();
        Ok(())
    }

    /// Whether the last read has failed because the connection is to be handed over. The
    /// handler then returns that error.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over
    }

    /// A place where the connection can be handed over, for a handler that writes for long
    /// and does not read. Fails if it is to be. Also lets others run.
    pub async fn check(&mut self) -> io::Result<()> {
        wit_bindgen::yield_async().await;
        if self.draining.check().await {
            return Err(self.hand_over());
        }
        Ok(())
    }

    /// The peer's address: `HOST:PORT`, or the name of its Unix socket, which may be empty.
    pub fn peer(&self) -> String {
        self.info().map_or_else(String::new, |info| info.peer)
    }

    /// The address that the peer has connected to, in the same form.
    pub fn local(&self) -> String {
        self.info().map_or_else(String::new, |info| info.local)
    }

    /// All that the host says of the connection. `None` when it is gone.
    pub fn info(&self) -> Option<Info> {
        super::lower::connection_info(&self.socket)
    }

    crate::p3::socket_options!(socket);

    fn hand_over(&mut self) -> io::Error {
        self.handed_over = true;
        // Who goes on all the same is not told again.
        self.draining = Draining::never();
        io::Error::other("the connection is handed over")
    }

    /// Reads a chunk into what is ahead. Returns `false` at the end of file.
    async fn read_more(&mut self, may_hand_over: bool) -> io::Result<bool> {
        self.handed_over = false;
        self.send(may_hand_over).await?;
        // With a peer that is always ready no read or write waits.
        self.rounds += 1;
        if self.rounds.is_multiple_of(ROUNDS) {
            wit_bindgen::yield_async().await;
            self.draining.check().await;
        }
        if may_hand_over && self.draining.is_ready() {
            return Err(self.hand_over());
        }
        if self.is_at_end {
            // A stream that has ended cannot be read again.
            return Ok(false);
        }
        match self.read_once(may_hand_over).await {
            (_, true) => Ok(true),
            (StreamResult::Dropped, _) => {
                self.is_at_end = true;
                Ok(false)
            }
            // Nothing has come: that is only because it was cancelled.
            _ => Err(self.hand_over()),
        }
    }

    /// Reads once. Returns how that ended, and whether something has come.
    async fn read_once(&mut self, may_hand_over: bool) -> (StreamResult, bool) {
        let never = Draining::never();
        let draining = if may_hand_over {
            &self.draining
        } else {
            &never
        };
        let read = pin!(self.streams.input.read(Vec::with_capacity(READ_AT_ONCE)));
        let mut read = Reading {
            read,
            ahead: &mut self.ahead,
            is_over: false,
        };
        match draining.unless_ready(read.read.as_mut()).await {
            Some((result, bytes)) => read.end(result, &bytes),
            None => read.cancel(),
        }
    }

    /// Waits for this byte, and returns how many bytes there are up to it; at the end of
    /// file all that there are.
    async fn wait_for(&mut self, delimiter: u8) -> io::Result<usize> {
        loop {
            if let Some(length) = self.ahead.find(delimiter)? {
                return Ok(length);
            }
            if !self.read_more(true).await? {
                return Ok(self.ahead.bytes.len());
            }
        }
    }

    /// Sends what is gathered. When the connection is to be handed over, what is left moves
    /// with it.
    pub(super) async fn send(&mut self, may_hand_over: bool) -> io::Result<()> {
        let never = Draining::never();
        let draining = if may_hand_over {
            &self.draining
        } else {
            &never
        };
        while !self.unsent.is_empty() {
            let write = pin!(self.streams.output.write(self.unsent.take()));
            let mut write = Writing {
                write,
                unsent: &mut self.unsent,
                is_over: false,
            };
            let result = match draining.unless_ready(write.write.as_mut()).await {
                Some((result, rest)) => write.end(result, &rest.into_vec()),
                None => write.cancel(),
            };
            drop(write);
            if result == StreamResult::Dropped {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            if draining.is_ready() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A read under way. What it has moved is kept if the wait for it is given up.
struct Reading<'a, 's> {
    read: Pin<&'a mut StreamRead<'s, u8>>,
    ahead: &'a mut Ahead,
    is_over: bool,
}

impl Reading<'_, '_> {
    /// Keeps what has come. Returns also whether something has.
    fn end(&mut self, result: StreamResult, bytes: &[u8]) -> (StreamResult, bool) {
        self.is_over = true;
        self.ahead.bytes.push(bytes);
        (result, !bytes.is_empty())
    }

    fn cancel(&mut self) -> (StreamResult, bool) {
        let (result, bytes) = self.read.as_mut().cancel();
        self.end(result, &bytes)
    }
}

impl Drop for Reading<'_, '_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.cancel();
        }
    }
}

/// A write under way. What it has not moved is kept if the wait for it is given up.
struct Writing<'a, 's> {
    write: Pin<&'a mut StreamWrite<'s, u8>>,
    unsent: &'a mut Queue,
    is_over: bool,
}

impl Writing<'_, '_> {
    fn end(&mut self, result: StreamResult, rest: &[u8]) -> StreamResult {
        self.is_over = true;
        self.unsent.push(rest);
        result
    }

    fn cancel(&mut self) -> StreamResult {
        let (result, rest) = self.write.as_mut().cancel();
        self.end(result, &rest.into_vec())
    }
}

impl Drop for Writing<'_, '_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.cancel();
        }
    }
}
