//! HTTP/1.1 as the control server speaks it: one request per connection.
//!
//! The client side is hyper's. Its server side is not used, because it asks for
//! the date whenever it reads or writes, also with `auto_date_header(false)`,
//! and httpdate, which makes that date, panics if the clock is before 1970 or
//! after 9999 (the same panic as in hyperium/headers#230). Nothing here looks at the
//! clock of the machine, and no answer has a date.
//!
//! The head of a request is bounded in size and in time, and a body by whoever
//! reads it. What is not understood is refused, never guessed.

mod body;
mod head;
#[cfg(test)]
mod tests;

use hyper::{Method, StatusCode};
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

pub(super) use body::{Body, BodyError};
pub(super) use head::request;

/// How much is read at once, in bytes.
const READ: usize = 64 << 10;

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
