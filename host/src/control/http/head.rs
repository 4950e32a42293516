//! The head of a request: the request line and the header fields.

use super::body::{Body, length};
use super::{READ, Stream};
use bytes::{Buf as _, BytesMut};
use hyper::header::EXPECT;
use hyper::{Request, StatusCode, Version};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// The largest head, in bytes. A query may be as long as a body.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// The largest number of header fields.
const MAX_FIELDS: usize = 64;

/// Why a request cannot be read. One line each.
#[derive(Debug, thiserror::Error)]
pub(in crate::control) enum HeadError {
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
    /// Returns the HTTP status for the error.
    pub(in crate::control) fn status(&self) -> StatusCode {
        match self {
            Self::Late(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Large => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Short | Self::Malformed(_) | Self::Length(_) => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads the head of a request, within `time`. `None` if the client closed the
/// connection, or sent nothing.
pub(in crate::control) async fn request(
    stream: &mut dyn Stream,
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
    Ok(Some(
        head.map(|()| Body::new(stream, buffer, rest, expected)),
    ))
}

/// Reads into `buffer` until it has a whole head, and takes the head out.
async fn read_head(
    stream: &mut dyn Stream,
    buffer: &mut BytesMut,
) -> Result<Option<Request<()>>, HeadError> {
    loop {
        let before = buffer.len();
        buffer.reserve(READ);
        match stream.read_buf(buffer).await {
            // If a client hangs up, no other client is affected.
            Err(_) => return Ok(None),
            Ok(0) if before == 0 => return Ok(None),
            // A syntax error is more helpful than the early end.
            Ok(0) => return parse(buffer).and(Err(HeadError::Short)),
            Ok(_) => {}
        }
        let is_blank = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let blank = buffer.iter().take_while(|byte| is_blank(byte)).count();
        buffer.advance(blank);
        // Only a new line can complete a head. So a client that sends single bytes
        // does not make the server parse all bytes again for each of them.
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

/// Parses a head, and returns it with its size in bytes. `None` if it is not
/// complete yet.
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
