//! The bodies of requests: how long they are, and their bytes as they arrive.
//!
//! A body lives as long as its request, which holds the connection. This module
//! sets no limit of size or time; `request` does.

use super::head::{HeadError, MAX_HEAD};
use super::{READ, Stream};
use bytes::{Buf as _, Bytes, BytesMut};
use hyper::header::{CONTENT_LENGTH, HeaderMap, HeaderName, TRANSFER_ENCODING};
use hyper::{Request, Version};
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// The longest line before a chunk, in bytes.
pub(super) const MAX_SIZE_LINE: usize = 4 << 10;

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub(in crate::control) enum BodyError {
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("it ends too early")]
    Short,
    #[error("a chunk has no size, or does not end where it says")]
    Chunk,
    #[error("what follows its last chunk is too long")]
    Trailers,
}

/// Returns the length of the body as the head says it.
pub(super) fn length(head: &Request<()>) -> Result<Rest, HeadError> {
    let refused = |why| Err(HeadError::Length(why));
    let lengths = only(head.headers(), &CONTENT_LENGTH);
    let codings = only(head.headers(), &TRANSFER_ENCODING);
    match (lengths, codings) {
        (Ok(None), Ok(None)) => Ok(Rest::Plain(0)),
        (Ok(Some(length)), Ok(None)) => {
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(length).ok().filter(|_| digits);
            match number.and_then(|number| number.parse().ok()) {
                Some(length) => Ok(Rest::Plain(length)),
                None => refused("Content-Length is a number of bytes"),
            }
        }
        (Ok(None), Ok(Some(coding))) if head.version() == Version::HTTP_11 => {
            if coding.eq_ignore_ascii_case(b"chunked") {
                Ok(Rest::Size)
            } else {
                refused("the only Transfer-Encoding is chunked")
            }
        }
        (Ok(None), Ok(Some(_))) => refused("HTTP/1.0 has no Transfer-Encoding"),
        _ => refused("write Content-Length or Transfer-Encoding, once"),
    }
}

/// Returns the value of a field that may appear once at most.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a [u8]>, ()> {
    let mut values = fields.get_all(name).iter();
    let value = values.next().map(|value| value.as_bytes().trim_ascii());
    values.next().map_or(Ok(value), |_| Err(()))
}

/// The part of a body that is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// This many bytes.
    Plain(u64),
    /// The line with the size of the next chunk, and everything after it.
    Size,
    /// This many bytes of the current chunk, its end, and everything after it.
    Chunk(u64),
    /// Trailer lines up to an empty line. This many bytes of them have been read.
    Trailers(usize),
}

/// A body. It is read from the client on demand.
#[derive(Debug)]
pub(in crate::control) struct Body<'a> {
    stream: &'a mut dyn Stream,
    buffer: BytesMut,
    rest: Rest,
    /// The client waits for `100 Continue` before it sends the body.
    expected: bool,
}

impl<'a> Body<'a> {
    /// Makes a body of the bytes in `buffer` and those that are still to come from
    /// `stream`.
    pub(super) fn new(
        stream: &'a mut dyn Stream,
        buffer: BytesMut,
        rest: Rest,
        expected: bool,
    ) -> Self {
        Self {
            stream,
            buffer,
            rest,
            expected,
        }
    }

    /// Returns how many bytes are still to come, if the request says so.
    pub(in crate::control) fn size(&self) -> Option<u64> {
        match self.rest {
            Rest::Plain(left) => Some(left),
            _ => None,
        }
    }

    /// Returns the next bytes, at least one. `None` at the end of the body. There
    /// is no time limit.
    pub(in crate::control) async fn data(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            match self.rest {
                Rest::Plain(0) => return Ok(None),
                Rest::Plain(left) => {
                    let data = self.take(left).await?;
                    self.rest = Rest::Plain(left.saturating_sub(data.len() as u64));
                    return Ok(Some(data));
                }
                Rest::Size => self.size_line().await?,
                Rest::Chunk(0) => {
                    while self.buffer.len() < 2 {
                        self.fill().await?;
                    }
                    if !self.buffer.starts_with(b"\r\n") {
                        return Err(BodyError::Chunk);
                    }
                    self.buffer.advance(2);
                    self.rest = Rest::Size;
                }
                Rest::Chunk(left) => {
                    let data = self.take(left).await?;
                    self.rest = Rest::Chunk(left.saturating_sub(data.len() as u64));
                    return Ok(Some(data));
                }
                Rest::Trailers(before) => self.trailer(before).await?,
            }
        }
    }

    /// Reads the line with the size of a chunk.
    async fn size_line(&mut self) -> Result<(), BodyError> {
        let parsed = httparse::parse_chunk_size(&self.buffer);
        // A size must have at least one digit.
        let first = self.buffer.first();
        if parsed.is_err() || first.is_some_and(|byte| !byte.is_ascii_hexdigit()) {
            return Err(BodyError::Chunk);
        }
        if let Ok(httparse::Status::Complete((line, size))) = parsed {
            self.buffer.advance(line);
            self.rest = match size {
                0 => Rest::Trailers(0),
                _ => Rest::Chunk(size),
            };
            return Ok(());
        }
        if self.buffer.len() > MAX_SIZE_LINE {
            return Err(BodyError::Chunk);
        }
        self.fill().await
    }

    /// Reads one line of the trailers.
    async fn trailer(&mut self, before: usize) -> Result<(), BodyError> {
        let end = self.buffer.iter().position(|&byte| byte == b'\n');
        let line = end.map_or(self.buffer.len(), |end| end.saturating_add(1));
        if before.saturating_add(line) > MAX_HEAD {
            return Err(BodyError::Trailers);
        }
        if end.is_none() {
            return self.fill().await;
        }
        let line = self.buffer.split_to(line);
        self.rest = match &*line {
            b"\n" | b"\r\n" => Rest::Plain(0),
            _ => Rest::Trailers(before.saturating_add(line.len())),
        };
        Ok(())
    }

    /// Returns up to `most` bytes, at least one.
    async fn take(&mut self, most: u64) -> Result<Bytes, BodyError> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = most.min(self.buffer.len());
        Ok(self.buffer.split_to(count).freeze())
    }

    /// Reads more bytes into the buffer. Asks a waiting client to continue first.
    async fn fill(&mut self) -> Result<(), BodyError> {
        if std::mem::take(&mut self.expected) {
            self.stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await?;
        }
        self.buffer.reserve(READ);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(BodyError::Short),
            _ => Ok(()),
        }
    }
}
