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
use std::io;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

pub(super) use body::{Body, BodyError};
pub(super) use head::request;

/// The smallest room for one read, in bytes.
const READ: usize = 64 << 10;

/// Sends a JSON answer, which says that the connection ends with it. Then reads
/// what the client still sends, up to `most` bytes. If the server closed the
/// connection before that, a client that is still sending would get an error
/// instead of the answer.
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
