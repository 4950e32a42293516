//! HTTP/1.1 as the control server speaks it: one request per connection.
//!
//! The client side is hyper's. Its server side is not used, because it asks for
//! the date whenever it reads or writes, also with `auto_date_header(false)`,
//! and httpdate, which makes that date, panics if the clock is before 1970 or
//! after 9999. Nothing here looks at the clock of the machine, and no answer has
//! a date.
//!
//! The head of a request is bounded in size and in time, and a body by whoever
//! reads it. What is not understood is refused, never guessed.

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::header::{CONTENT_LENGTH, EXPECT, HeaderMap, TRANSFER_ENCODING};
use hyper::{Method, Request, StatusCode, Version};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// The largest head, in bytes: what a query says may be as long as a body.
const MAX_HEAD: usize = 64 << 10;
/// The largest number of header fields.
const MAX_FIELDS: usize = 64;
/// The longest line before a chunk, in bytes.
const MAX_SIZE_LINE: usize = 4 << 10;
/// How much is read at once, in bytes.
const READ: usize = 64 << 10;

/// Why a request is not answered as it wants. One line each.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeadError {
    #[error("the head of the request was not there within {0:?}")]
    Late(Duration),
    #[error("the request ends within its head")]
    Short,
    #[error(
        "the head of the request is too large; it may have {} KiB and {MAX_FIELDS} header fields",
        MAX_HEAD >> 10
    )]
    Large,
    #[error("the request is not understood: {0}; write HTTP/1.1, as `curl --unix-socket` does")]
    Malformed(String),
    #[error("the length of the body is not understood: {0}")]
    Length(&'static str),
}

impl HeadError {
    /// The status that says it.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Late(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Large => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Short | Self::Malformed(_) | Self::Length(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Why a body cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("it ends too early")]
    Short,
    #[error("a chunk has no size, or does not end where it says")]
    Chunk,
    #[error("what follows its last chunk is too long")]
    Trailers,
}

/// Reads the head of a request, which is to be there within `time`. Nothing if
/// the client went away, or never asked.
pub(super) async fn request(
    stream: &mut UnixStream,
    time: Duration,
) -> Result<Option<Request<Body<'_>>>, HeadError> {
    let mut buffer = BytesMut::new();
    let head = match tokio::time::timeout(time, read_head(stream, &mut buffer)).await {
        Ok(head) => head?,
        Err(_) if buffer.is_empty() => None,
        Err(_) => return Err(HeadError::Late(time)),
    };
    let Some(head) = head else {
        return Ok(None);
    };
    let rest = length(&head)?;
    let expected = head.version() == Version::HTTP_11
        && head
            .headers()
            .get(EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    Ok(Some(head.map(|()| Body {
        stream,
        buffer,
        rest,
        expected,
    })))
}

/// Reads into `buffer` until a head is there, and takes it out.
async fn read_head(
    stream: &mut UnixStream,
    buffer: &mut BytesMut,
) -> Result<Option<Request<()>>, HeadError> {
    loop {
        let before = buffer.len();
        buffer.reserve(READ);
        match stream.read_buf(buffer).await {
            // A client that hangs up concerns nobody else.
            Err(_) => return Ok(None),
            Ok(0) if before == 0 => return Ok(None),
            Ok(0) => return Err(HeadError::Short),
            Ok(_) => {}
        }
        let is_blank = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let blank = buffer.iter().take_while(|byte| is_blank(byte)).count();
        buffer.advance(blank);
        // Only a new line makes a difference, so that a client that sends single
        // bytes does not cost a look at all bytes for each.
        let new = buffer.get(before..).unwrap_or_default();
        if (before == 0 || new.contains(&b'\n'))
            && let Some((head, size)) = parse(buffer)?
        {
            buffer.advance(size);
            return Ok(Some(head));
        }
        if buffer.len() >= MAX_HEAD {
            return Err(HeadError::Large);
        }
    }
}

/// A head and its size in bytes. Nothing while it is not whole.
fn parse(bytes: &[u8]) -> Result<Option<(Request<()>, usize)>, HeadError> {
    let malformed = |error: &dyn std::fmt::Display| HeadError::Malformed(error.to_string());
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let size = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(size)) if size <= MAX_HEAD => size,
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::Large),
        Err(error) => return Err(malformed(&error)),
    };
    let mut head = Request::builder()
        .method(parsed.method.unwrap_or_default())
        .uri(parsed.path.unwrap_or_default())
        .version(match parsed.version {
            Some(0) => Version::HTTP_10,
            _ => Version::HTTP_11,
        });
    for field in parsed.headers.iter() {
        head = head.header(field.name, field.value);
    }
    let head = head.body(()).map_err(|error| malformed(&error))?;
    Ok(Some((head, size)))
}

/// How long the body is.
fn length(head: &Request<()>) -> Result<Rest, HeadError> {
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

/// The value of a field that may be there once.
fn only<'a>(
    fields: &'a HeaderMap,
    name: &hyper::header::HeaderName,
) -> Result<Option<&'a [u8]>, ()> {
    let mut values = fields.get_all(name).iter();
    let value = values.next().map(|value| value.as_bytes().trim_ascii());
    values.next().map_or(Ok(value), |_| Err(()))
}

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// So many bytes.
    Plain(u64),
    /// The line with the size of a chunk, and what follows it.
    Size,
    /// So many bytes of a chunk, its end, and what follows it.
    Chunk(u64),
    /// Lines up to an empty one, of which so many bytes have been read.
    Trailers(usize),
}

/// A body, which is read from the client as it is asked for.
#[derive(Debug)]
pub(super) struct Body<'a> {
    stream: &'a mut UnixStream,
    buffer: BytesMut,
    rest: Rest,
    /// The client waits for a word before it sends the body.
    expected: bool,
}

impl Body<'_> {
    /// How many bytes are still to come, if the request says so.
    pub(super) fn size(&self) -> Option<u64> {
        match self.rest {
            Rest::Plain(left) => Some(left),
            _ => None,
        }
    }

    /// The next bytes, at least one, or nothing at the end. They have no time
    /// limit.
    pub(super) async fn data(&mut self) -> Result<Option<Bytes>, BodyError> {
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

    async fn size_line(&mut self) -> Result<(), BodyError> {
        let parsed = httparse::parse_chunk_size(&self.buffer);
        // An empty number is none.
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

    /// Up to `most` bytes, and at least one.
    async fn take(&mut self, most: u64) -> Result<Bytes, BodyError> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let count = most.min(self.buffer.len());
        Ok(self.buffer.split_to(count).freeze())
    }

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

/// Sends an answer, which is JSON, and says that the connection ends with it.
/// Then reads what the client still sends, up to `most` bytes: a connection that
/// is closed before that is an error for the client, who may still be sending
/// and have the answer to read.
///
/// It has no time limit.
pub(super) async fn answer(
    stream: &mut UnixStream,
    method: &Method,
    status: StatusCode,
    body: &[u8],
    most: u64,
) -> io::Result<()> {
    let mut bytes = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len()
    )
    .into_bytes();
    if method != Method::HEAD {
        bytes.extend_from_slice(body);
    }
    stream.write_all(&bytes).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(most), &mut tokio::io::sink()).await?;
    Ok(())
}
