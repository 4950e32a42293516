//! HTTP/1.1 as the control server uses it: one request per connection.
//!
//! The client uses hyper. The server does not: hyper's server asks for the date
//! whenever it reads or writes, even with `auto_date_header(false)`. httpdate,
//! which formats that date, panics if the clock is before 1970 or after 9999 (the
//! same panic as in hyperium/headers#230). The code here does not look at the
//! machine's clock, and no answer has a date.
//!
//! The head of a request is limited in size and time here. A body is limited by the
//! code that reads it (`request`). A request that is not understood is refused; the
//! server does not guess.

mod body;
mod head;
#[cfg(test)]
mod tests;

use hyper::{Method, StatusCode};
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub(super) use body::{Body, BodyError};
pub(super) use head::request;

/// The smallest room for one read, in bytes.
const READ: usize = 64 << 10;

/// A connection to a client, over whichever transport.
pub(super) trait Stream: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Stream for S {}

/// What an answer's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    /// Text, as Prometheus reads it.
    Text,
    /// A line for people.
    Plain,
    /// A page for browsers, with its Content-Security-Policy.
    Page(&'static str),
}

impl Kind {
    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            // What prometheus-client writes, and what asks for the older format takes too.
            Self::Plain => "text/plain; charset=utf-8",
            Self::Text => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Page(_) => "text/html; charset=utf-8",
        }
    }

    /// Further fields of the head, each with its line's end.
    fn fields(self) -> String {
        // What is answered is true now only, and no browser shall guess what it is.
        let all = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n";
        match self {
            Self::Page(policy) => format!("{all}Content-Security-Policy: {policy}\r\n"),
            Self::Json | Self::Text | Self::Plain => all.to_owned(),
        }
    }
}

/// Sends an answer, which says that the connection ends with it. Then reads
/// what the client still sends, up to `most` bytes. If the server closed the
/// connection before that, a client that is still sending would get an error
/// instead of the answer.
///
/// It has no time limit.
pub(super) async fn answer(
    stream: &mut dyn Stream,
    method: &Method,
    status: StatusCode,
    kind: Kind,
    body: &[u8],
    most: u64,
) -> io::Result<()> {
    let mut bytes = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\
         {}Connection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        kind.content_type(),
        body.len(),
        kind.fields()
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
