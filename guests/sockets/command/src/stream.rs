//! Streams: how they connect, wait, and end.

use crate::wait::Deadline;
use crate::{address, of, print};
use std::io::{self, BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use wasi::io::streams::{InputStream, OutputStream, StreamError};
use wasi::sockets::instance_network::instance_network;
use wasi::sockets::network::ErrorCode;
use wasi::sockets::tcp::{ShutdownType, TcpSocket};
use wasi::sockets::tcp_create_socket::create_tcp_socket;

/// A connection. The streams are dropped before the socket, whose children they are.
pub(crate) struct Stream {
    pub(crate) input: InputStream,
    pub(crate) output: OutputStream,
    pub(crate) socket: TcpSocket,
}

impl Stream {
    /// Connects, in no longer than so many milliseconds.
    pub(crate) fn connect(to: SocketAddr, milliseconds: Option<u64>) -> Result<Self, String> {
        let socket = of("socket", create_tcp_socket(address::family(to)))?;
        let started = socket.start_connect(&instance_network(), address::ip_address(to));
        of("connect", started)?;
        let deadline = Deadline::after(milliseconds);
        loop {
            match socket.finish_connect() {
                Ok((input, output)) => {
                    return Ok(Self {
                        input,
                        output,
                        socket,
                    });
                }
                Err(ErrorCode::WouldBlock) => {
                    if !deadline.wait_for(&socket.subscribe()) {
                        return of("connect", Err(ErrorCode::Timeout));
                    }
                }
                Err(code) => return of("connect", Err(code)),
            }
        }
    }

    /// Sends all of a text.
    pub(crate) fn send(&self, text: &str) -> Result<(), String> {
        for piece in text.as_bytes().chunks(4096) {
            let written = self.output.blocking_write_and_flush(piece);
            written.map_err(|error| failed("send", &error))?;
        }
        Ok(())
    }

    /// Reads what is there. `None` is the end of file.
    pub(crate) fn read(&self) -> Result<Option<Vec<u8>>, String> {
        match self.input.read(1024) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StreamError::Closed) => Ok(None),
            Err(error) => Err(failed("receive", &error)),
        }
    }

    /// Prints all that comes.
    fn print_all(&self) -> Result<(), String> {
        while let Some(bytes) = self.read()? {
            print(&bytes)?;
            if bytes.is_empty() {
                self.input.subscribe().block();
            }
        }
        Ok(())
    }
}

fn failed(what: &str, error: &StreamError) -> String {
    match error {
        StreamError::Closed => format!("{what}: closed"),
        StreamError::LastOperationFailed(error) => format!("{what}: {}", error.to_debug_string()),
    }
}

/// Prints both addresses of a connection, or fails by the error's name.
pub(crate) fn connect_and_tell(to: SocketAddr, milliseconds: Option<u64>) -> Result<(), String> {
    let stream = Stream::connect(to, milliseconds)?;
    let local = of("local address", stream.socket.local_address())?;
    let remote = of("remote address", stream.socket.remote_address())?;
    println!("local {}", address::socket_addr(local));
    println!("remote {}", address::socket_addr(remote));
    Ok(())
}

/// Prints what comes first, if it comes in time: `SO_RCVTIMEO`.
pub(crate) fn receive(from: SocketAddr, milliseconds: u64) -> Result<(), String> {
    let stream = Stream::connect(from, None)?;
    let deadline = Deadline::after(Some(milliseconds));
    loop {
        if !deadline.wait_for(&stream.input.subscribe()) {
            return Err("receive: timeout".to_owned());
        }
        match stream.read()? {
            // Ready, and yet nothing.
            Some(bytes) if bytes.is_empty() => {}
            bytes => return print(&bytes.unwrap_or_default()),
        }
    }
}

/// Shows that nothing waits that is not told to: neither to connect nor to read.
pub(crate) fn would_block(to: SocketAddr) -> Result<(), String> {
    let socket = of("socket", create_tcp_socket(address::family(to)))?;
    let started = socket.start_connect(&instance_network(), address::ip_address(to));
    of("connect", started)?;
    let (input, output) = loop {
        match socket.finish_connect() {
            Ok(streams) => break streams,
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            Err(code) => return of("connect", Err(code)),
        }
    };
    let stream = Stream {
        input,
        output,
        socket,
    };
    let none = stream.read()?;
    println!("before: {} bytes", none.unwrap_or_default().len());
    println!("ready: {}", stream.input.subscribe().ready());
    stream.send("hello\n")?;
    stream.input.subscribe().block();
    print(b"after: ")?;
    print(&stream.read()?.unwrap_or_default())
}

/// Ends one direction or both, of a connection to a server that echoes.
pub(crate) fn shutdown(to: SocketAddr, how: ShutdownType) -> Result<(), String> {
    let stream = Stream::connect(to, None)?;
    if how == ShutdownType::Send {
        stream.send("sent before\n")?;
    }
    of("shutdown", stream.socket.shutdown(how))?;
    // An end of file, also of a direction that was shut down here.
    stream.print_all()?;
    println!("received all");
    match stream.send("sent after\n") {
        Ok(()) => println!("sent"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}

/// Sends a text and prints the answer line by line, as a file is read.
pub(crate) fn lines(to: SocketAddr, text: &str) -> Result<(), String> {
    let stream = Stream::connect(to, None)?;
    stream.send(text)?;
    of("shutdown", stream.socket.shutdown(ShutdownType::Send))?;
    for line in BufReader::new(File(&stream.input)).lines() {
        let line = line.map_err(|error| format!("receive: {error}"))?;
        println!("line: {line}");
    }
    Ok(())
}

/// An input as the standard library reads it.
struct File<'a>(&'a InputStream);

impl Read for File<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let limit = u64::try_from(room.len()).unwrap_or(u64::MAX);
        match self.0.blocking_read(limit) {
            Ok(bytes) => bytes.as_slice().read(room),
            Err(StreamError::Closed) => Ok(0),
            Err(error) => Err(io::Error::other(failed("read", &error))),
        }
    }
}
