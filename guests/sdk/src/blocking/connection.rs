//! A connection as a blocking handler has it.

use crate::ahead::{AHEAD_LIMIT, Ahead};
use crate::connection_info::connection_types::Info;
use crate::p2::blocking::Draining;
use crate::p2::{CHUNK, io_error, permit};
use crate::session::Queue;
use std::fmt;
use std::io::{self, BufRead, Read, Write};
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::tcp::{ShutdownType, TcpSocket};

/// So much output is gathered before it is sent. A read sends it too.
const GATHERED: usize = 8 * 1024;

/// So much output may wait when the connection is to be handed over. It moves with the
/// connection, so a peer that does not read holds no hand-over up.
const MOVED: usize = 256 * 1024;

/// A connection, for reading, writing, and its socket.
///
/// Output is gathered, and sent before a read waits, when 8 KiB are there, and when the
/// handler returns; [`flush`](Write::flush) sends it at once.
///
/// Each read takes what it promises or nothing: [`next_line`](Self::next_line),
/// [`read_until`](BufRead::read_until), [`read_line`](BufRead::read_line) and
/// [`read_exact`](Read::read_exact) leave what is there if the connection is to be handed
/// over first, and return an error for which [`is_handed_over`](Self::is_handed_over) is
/// true. A write never fails for that. Of a read through an adaptor, such as
/// [`take`](Read::take), each piece counts by itself.
pub struct Connection {
    // Dropped in this order: in other hosts a stream may be a child of its socket.
    input: InputStream,
    output: OutputStream,
    socket: TcpSocket,
    pub(super) ahead: Ahead,
    pub(super) unsent: Queue,
    draining: Draining,
    /// Whether the last read has failed because the connection is to be handed over.
    handed_over: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(super) fn new(
        socket: TcpSocket,
        input: InputStream,
        output: OutputStream,
        draining: Draining,
    ) -> Self {
        Self {
            input,
            output,
            socket,
            ahead: Ahead::default(),
            unsent: Queue::default(),
            draining,
            handed_over: false,
        }
    }

    /// Reads a line, and returns it without its line ending, `\n` or `\r\n`. `None` at the
    /// end of file. What is left there without a line ending is a line too.
    ///
    /// It is an error if the line is not UTF-8 (the line is then taken), or has no end
    /// within 262 144 bytes.
    pub fn next_line(&mut self) -> io::Result<Option<String>> {
        let length = self.wait_for(b'\n')?;
        if length == 0 {
            return Ok(None);
        }
        self.ahead.take_line(length).map(Some)
    }

    /// Whether the last read has failed because the connection is to be handed over. The
    /// handler then returns that error.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over
    }

    /// A place where the connection can be handed over, for a handler that writes for long
    /// and does not read. Fails if it is to be.
    pub fn check(&mut self) -> io::Result<()> {
        if self.draining.check_sometimes() {
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
        crate::p2::connection_info(&self.socket)
    }

    /// Sends what is gathered, and shuts down reading, writing or both.
    pub fn shutdown(&mut self, how: std::net::Shutdown) -> io::Result<()> {
        let how = match how {
            std::net::Shutdown::Read => ShutdownType::Receive,
            std::net::Shutdown::Write => ShutdownType::Send,
            std::net::Shutdown::Both => ShutdownType::Both,
        };
        if how != ShutdownType::Receive {
            self.flush()?;
        }
        self.socket
            .shutdown(how)
            .map_err(|code| crate::p2::error_of("shutdown", code))
    }

    crate::p2::socket_options!(socket);

    fn hand_over(&mut self) -> io::Error {
        self.handed_over = true;
        // Who goes on all the same is not told again.
        self.draining = Draining::never();
        io::Error::other("the connection is handed over")
    }

    /// Reads a chunk into what is ahead. Returns `false` at the end of file.
    fn read_more(&mut self, may_hand_over: bool) -> io::Result<bool> {
        self.handed_over = false;
        self.send(0, may_hand_over)?;
        if may_hand_over && self.draining.check_sometimes() {
            return Err(self.hand_over());
        }
        loop {
            match self.input.blocking_read(CHUNK as u64) {
                // A read that waits is interrupted when the connection is to be handed over.
                Ok(chunk) if chunk.is_empty() => {
                    if may_hand_over && self.draining.is_ready() {
                        return Err(self.hand_over());
                    }
                }
                Ok(chunk) => {
                    self.ahead.bytes.push(&chunk);
                    return Ok(true);
                }
                Err(StreamError::Closed) => return Ok(false),
                Err(error) => return Err(io_error("read", &error)),
            }
        }
    }

    /// Waits for this byte, and returns how many bytes there are up to it; at the end of
    /// file all that there are.
    fn wait_for(&mut self, delimiter: u8) -> io::Result<usize> {
        loop {
            if let Some(length) = self.ahead.find(delimiter)? {
                return Ok(length);
            }
            if !self.read_more(true)? {
                return Ok(self.ahead.bytes.len());
            }
        }
    }

    /// Sends until no more than `rest` bytes are left. When the connection is to be handed
    /// over it does not wait for room, as long as what is left can move with it.
    fn send(&mut self, rest: usize, may_hand_over: bool) -> io::Result<()> {
        while self.unsent.len() > rest {
            let room = permit(&self.output).map_err(|error| io_error("write", &error))?;
            if room > 0 {
                let piece = self.unsent.front(room);
                self.output
                    .write(piece)
                    .map_err(|error| io_error("write", &error))?;
                let sent = piece.len();
                self.unsent.consume(sent);
            } else if may_hand_over && self.unsent.len() <= MOVED {
                if self.draining.wait_for(&[&self.output.subscribe()]) {
                    return Ok(());
                }
            } else {
                self.output.subscribe().block();
            }
        }
        Ok(())
    }

    /// Sends everything, at the end of the connection. Returns whether the connection is to
    /// be handed over first.
    pub(super) fn finish(&mut self) -> io::Result<bool> {
        self.send(0, true)?;
        Ok(!self.unsent.is_empty())
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        // What is more than can be ahead is not put back, and so not interrupted.
        let may_hand_over = buffer.len() <= AHEAD_LIMIT;
        while self.ahead.bytes.len() < buffer.len() {
            if !self.read_more(may_hand_over)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut front = self.ahead.bytes.front(buffer.len());
        front.read_exact(buffer)?;
        self.ahead.consume(buffer.len());
        Ok(())
    }

    /// Reads to the end of file. The connection is not handed over meanwhile.
    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        while self.read_more(false)? {}
        let bytes = self.ahead.bytes.take();
        self.ahead.consume(0);
        buffer.extend_from_slice(&bytes);
        Ok(bytes.len())
    }

    /// As [`read_to_end`](Read::read_to_end), for text.
    fn read_to_string(&mut self, buffer: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        buffer.push_str(&text(bytes)?);
        Ok(buffer.len())
    }
}

impl BufRead for Connection {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ahead.bytes.is_empty() {
            self.read_more(true)?;
        }
        Ok(self.ahead.bytes.front(usize::MAX))
    }

    fn consume(&mut self, count: usize) {
        self.ahead.consume(count);
    }

    fn read_until(&mut self, delimiter: u8, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let length = self.wait_for(delimiter)?;
        buffer.extend_from_slice(self.ahead.bytes.front(length));
        self.ahead.consume(length);
        Ok(length)
    }

    fn read_line(&mut self, buffer: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let length = self.read_until(b'\n', &mut bytes)?;
        buffer.push_str(&text(bytes)?);
        Ok(length)
    }
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.unsent.push(bytes);
        if self.unsent.len() > GATHERED {
            self.send(GATHERED / 2, true)?;
        }
        Ok(())
    }

    /// Sends what is gathered, as far as the host takes it without a hand-over.
    fn flush(&mut self) -> io::Result<()> {
        self.send(0, true)
    }
}
