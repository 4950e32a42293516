//! `wasi:io/streams`: the streams of connections, and those of anything else.

use crate::Component;
use crate::connection::{CHUNK, Part};
use crate::exports::wasi::io::streams::{
    Guest, GuestInputStream, GuestOutputStream, InputStreamBorrow,
};
use crate::wasi::clocks0_2_12::monotonic_clock::subscribe_duration;
use crate::wasi::io::poll::Pollable;
use crate::wasi::io::streams::{InputStream, OutputStream, StreamError};
use alloc::vec::Vec;

impl Guest for Component {
    type InputStream = Input;
    type OutputStream = Output;
}

/// What the handler reads from.
pub(crate) enum Input {
    /// A connection.
    Of(Part),
    /// A file, standard input, or a socket that the handler has made itself.
    Other(InputStream),
}

/// What the handler writes to.
pub(crate) enum Output {
    /// A connection.
    Of(Part),
    /// A file, standard output, or a socket that the handler has made itself.
    Other(OutputStream),
}

/// What is ready at once.
fn ready() -> Pollable {
    subscribe_duration(0)
}

impl Input {
    /// As [`with`](Input::with), for what may find nothing.
    fn find<T>(
        &self,
        is_something: impl FnOnce(&T) -> bool,
        using: impl FnOnce(&InputStream) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        let found = self.with(using);
        if let Self::Of(part) = self
            && found.as_ref().map_or(true, is_something)
        {
            part.connection().has_moved.set(true);
        }
        found
    }

    fn with<T>(
        &self,
        using: impl FnOnce(&InputStream) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        match self {
            Self::Of(part) => part.connection().with_input(using),
            Self::Other(stream) => using(stream),
        }
    }
}

impl GuestInputStream for Input {
    fn read(&self, len: u64) -> Result<Vec<u8>, StreamError> {
        let is_something = |bytes: &Vec<u8>| !bytes.is_empty();
        self.find(is_something, |stream| stream.read(len.min(CHUNK)))
    }

    fn blocking_read(&self, len: u64) -> Result<Vec<u8>, StreamError> {
        self.with(|stream| stream.blocking_read(len.min(CHUNK)))
    }

    fn skip(&self, len: u64) -> Result<u64, StreamError> {
        self.find(|count| *count > 0, |stream| stream.skip(len))
    }

    fn blocking_skip(&self, len: u64) -> Result<u64, StreamError> {
        self.with(|stream| stream.blocking_skip(len))
    }

    fn subscribe(&self) -> Pollable {
        let pollable = self.with(|stream| Ok(stream.subscribe()));
        pollable.unwrap_or_else(|_| ready())
    }
}

impl Output {
    fn with<T>(
        &self,
        using: impl FnOnce(&OutputStream) -> Result<T, StreamError>,
    ) -> Result<T, StreamError> {
        match self {
            Self::Of(part) => part.connection().with_output(using),
            Self::Other(stream) => using(stream),
        }
    }
}

impl GuestOutputStream for Output {
    fn check_write(&self) -> Result<u64, StreamError> {
        let permit = self.with(OutputStream::check_write);
        let Self::Of(part) = self else {
            return permit;
        };
        let connection = part.connection();
        if !matches!(permit, Ok(0)) {
            connection.has_moved.set(true);
            return permit;
        }
        if connection.is_written.get() {
            return permit;
        }
        // There is room in a new connection; the system only does not know yet.
        connection.with_parts(|parts| parts.writable.block());
        self.with(OutputStream::check_write)
    }

    fn write(&self, contents: Vec<u8>) -> Result<(), StreamError> {
        if let Self::Of(part) = self {
            part.connection().is_written.set(true);
        }
        self.with(|stream| stream.write(&contents))
    }

    fn blocking_write_and_flush(&self, contents: Vec<u8>) -> Result<(), StreamError> {
        self.with(|stream| stream.blocking_write_and_flush(&contents))
    }

    fn flush(&self) -> Result<(), StreamError> {
        self.with(OutputStream::flush)
    }

    fn blocking_flush(&self) -> Result<(), StreamError> {
        self.with(OutputStream::blocking_flush)
    }

    fn subscribe(&self) -> Pollable {
        let pollable = self.with(|stream| Ok(stream.subscribe()));
        pollable.unwrap_or_else(|_| ready())
    }

    fn write_zeroes(&self, len: u64) -> Result<(), StreamError> {
        self.with(|stream| stream.write_zeroes(len))
    }

    fn blocking_write_zeroes_and_flush(&self, len: u64) -> Result<(), StreamError> {
        self.with(|stream| stream.blocking_write_zeroes_and_flush(len))
    }

    fn splice(&self, src: InputStreamBorrow<'_>, len: u64) -> Result<u64, StreamError> {
        let source = src.get::<Input>();
        let is_something = |count: &u64| *count > 0;
        self.with(|output| source.find(is_something, |input| output.splice(input, len)))
    }

    fn blocking_splice(&self, src: InputStreamBorrow<'_>, len: u64) -> Result<u64, StreamError> {
        let source = src.get::<Input>();
        self.with(|output| source.with(|input| output.blocking_splice(input, len)))
    }
}
