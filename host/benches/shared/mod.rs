//! What the benchmarks of an echo share: the native peer of stream sockets, the clients'
//! round trips, and the median.

use super::server::Result;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::runtime::Runtime;

/// A runtime on one thread, as the native servers and the clients have.
pub(crate) fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build()?)
}

/// Echoes until the peer ends, with a buffer of 64 KiB.
pub(crate) async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..read) else {
            return;
        };
        if stream.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Makes round trips of 64 bytes. Returns how many.
pub(crate) async fn ping_pong(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    until: Instant,
) -> std::io::Result<usize> {
    let (message, mut answer) = ([7; 64], [0; 64]);
    let mut count = 0;
    while Instant::now() < until {
        stream.write_all(&message).await?;
        stream.read_exact(&mut answer).await?;
        count += 1;
    }
    Ok(count)
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
